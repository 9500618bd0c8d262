"""State is a value: what belongs to rows can be picked and mixed, what is shared stays."""

import pytest
import torch

from stopkit import InputError, State


def state(offset: int = 0) -> State:
    part = State(rows={"deep": torch.arange(6).view(3, 2) + offset}, shared={"all": torch.tensor(offset)})
    return State(rows={"x": torch.arange(3) + offset}, parts=(part,))


def test_select_reorders_drops_and_repeats_rows() -> None:
    picked = state().select(torch.tensor([2, 0, 0, 2]))
    assert picked.rows["x"].tolist() == [2, 0, 0, 2]
    assert picked.parts[0].rows["deep"].tolist() == [[4, 5], [0, 1], [0, 1], [4, 5]]
    assert picked.parts[0].shared["all"].tolist() == 0


def test_where_mixes_rows() -> None:
    mixed = state(10).where(torch.tensor([True, False, True]), state())
    assert mixed.rows["x"].tolist() == [10, 1, 12]
    assert mixed.parts[0].rows["deep"].tolist() == [[10, 11], [2, 3], [14, 15]]
    assert mixed.parts[0].shared["all"].tolist() == 10


def test_what_did_not_change_is_not_copied() -> None:
    old = State(rows={"big": torch.zeros(3, 9), "x": torch.zeros(3)}, shared={"all": torch.zeros(1)})
    new = old.put(x=torch.ones(3))
    kept = new.where(torch.tensor([True, False, True]), old)
    assert kept.rows["big"] is old.rows["big"]
    assert kept.rows["x"].tolist() == [1, 0, 1]
    assert new.shared is old.shared


def test_couples_rows() -> None:
    assert state().couples_rows
    assert not State(rows={"x": torch.zeros(2)}).couples_rows


def test_append_adds_rows() -> None:
    longer = state().append(state(10).select(torch.tensor([1])))
    assert longer.rows["x"].tolist() == [0, 1, 2, 11]
    assert longer.parts[0].rows["deep"].tolist() == [[0, 1], [2, 3], [4, 5], [12, 13]]
    assert longer.parts[0].shared["all"].tolist() == 0


def learned(shared: bool, rows: int = 3) -> State:
    return State.learned(rows, torch.device("cpu"), shared=shared, length=5, counts=[1.0, 2.0])


def test_learned_values_belong_to_rows_or_are_shared() -> None:
    assert learned(False).rows["counts"].tolist() == [[1, 2]] * 3
    assert learned(True).shared["counts"].tolist() == [[1, 2]]
    assert not learned(True).rows
    assert not learned(False).shared


TAUGHT = torch.tensor([True, False, True])
LENGTH, COUNTS = torch.tensor([6.0, 100.0, 8.0]), torch.tensor([[3.0, 0.0], [9.0, 9.0], [5.0, 1.0]])


def test_rows_learn_each_for_itself() -> None:
    moved = learned(False).moved(TAUGHT, length=LENGTH, counts=COUNTS)
    assert moved["length"].tolist() == [6, 5, 8]
    assert moved["counts"].tolist() == [[3, 0], [1, 2], [5, 1]]


def test_what_is_shared_becomes_the_mean_of_what_was_learned() -> None:
    moved = learned(True).moved(TAUGHT, length=LENGTH, counts=COUNTS)
    assert moved["length"].tolist() == [7]
    assert moved["counts"].tolist() == [[4, 0.5]]
    nothing = learned(True).moved(TAUGHT & False, length=LENGTH * torch.nan)
    assert nothing["length"].tolist() == [5]


def test_a_state_goes_on_with_as_many_rows_or_with_what_is_shared() -> None:
    old, part = learned(False).put(length=LENGTH), learned(True).put(length=torch.tensor([9.0]))
    both = State(rows=old.rows, parts=(part,))
    assert str(both.resumed(State(rows=learned(False).rows, parts=(learned(True),)))) == str(both)
    fewer = State(rows=learned(False, 2).rows, parts=(learned(True, 2),))
    for state in (both, both.outlived()):
        assert state is not None
        resumed = state.resumed(fewer)
        assert resumed.rows["length"].tolist() == [5, 5]
        assert resumed.parts[0]["length"].tolist() == [9]
    assert old.outlived() is None
    with pytest.raises(InputError, match="belongs to another number of sequences"):
        old.resumed(learned(False, 2))
    with pytest.raises(InputError, match="is not one of this policy"):
        both.resumed(old)
