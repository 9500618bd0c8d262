"""State is a value: what belongs to rows can be picked and mixed, what is shared stays."""

import torch

from stopkit import State


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


def test_couples_rows() -> None:
    assert state().couples_rows
    assert not State(rows={"x": torch.zeros(2)}).couples_rows
