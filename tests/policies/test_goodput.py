"""`goodput` beside its reference, and its rounds by hand."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stopkit import Drawn, RoundContext, RoundOutcome, Signals, State
from stopkit.costs import CostModel, FixedCosts
from stopkit_policies import acceptance_model, goodput
from stopkit_policies.goodput import Goodput
from tests.policies.lockstep import Run, agree, runs

SMALL = {"SLOTS": 7, "RECALL": 0.5}
"""Tables in which texts collide, that are quick to compare, and in which sixteen bits round little."""


@contextmanager
def small(**constants: Any) -> Iterator[None]:
    with patch.dict(vars(acceptance_model), SMALL), patch.dict(vars(goodput), constants):
        yield


@pytest.mark.parametrize("longest", [3, 64])
@given(run=runs(rounds=8, longest=5))
def test_goodput(longest: int, run: Run) -> None:
    with small(LONGEST=longest):
        agree({"kind": "goodput"}, run)


@given(run=runs(rows=2, rounds=40, longest=3))
def test_waits(run: Run) -> None:
    with small(FIRST_WAIT=2.0, LONGEST_WAIT=4.0, FIRST_RATE=4.0):
        agree({"kind": "goodput"}, run)


GOODPUT, STATIC = {"kind": "goodput"}, {"kind": "static", "length": 2}
MEMBERS = st.sampled_from(
    [
        {"kind": "bandit", "policies": [GOODPUT, STATIC], "algorithm": "hedge"},
        {"kind": "all_of", "policies": [GOODPUT, STATIC]},
        {"kind": "per_position", "policies": {"0": GOODPUT, "2": {"kind": "margin"}}},
        {"kind": "capped", "policy": GOODPUT, "max_draft": 2},
    ]
)


@given(block=MEMBERS, run=runs(rounds=8, longest=5))
def test_as_a_member(block: dict[str, Any], run: Run) -> None:
    with small():
        agree(block, run)


def context(draft_step: float = 0.4, limit: int = 8, rows: int = 1, last_token: int = 3) -> RoundContext:
    """A target step takes 1, a block token adds 0.1."""
    costs = CostModel(FixedCosts(draft_step=draft_step, verify=1, verify_token=0.1)).costs(torch.device("cpu"))
    return RoundContext(
        active=torch.ones(rows, dtype=torch.bool),
        limit=torch.full((rows,), limit),
        costs=costs,
        last_token=torch.full((rows,), last_token),
    )


def state_with(batch_size: int = 1, **values: Any) -> State:
    """A new state, but for `values`."""
    state = Goodput().init(batch_size, torch.device("cpu"))
    given = {name: torch.as_tensor(value, dtype=state[name].dtype) for name, value in values.items()}
    return state.put(**{name: value.expand_as(state[name]) for name, value in given.items()})


def sure(*chances: float) -> dict[str, Any]:
    """Weights with which a drawn token is accepted by chances[0], and the one after any token by chances[1]."""
    own, following = (math.log(chance / (1 - chance)) for chance in chances)
    rest = [0] * (acceptance_model.LENGTHS + 2)
    return {"optimistic": [[following, *rest], [own, *rest]]}


def extends(state: State, position: int = 0) -> tuple[bool, State]:
    drawn = Drawn(torch.tensor([1]), torch.tensor([0.5]))
    more, state = Goodput().extend(state, torch.tensor([position]), Signals(max_probability=torch.tensor([0.5])), drawn)
    return bool(more), state


def outcome(of: RoundContext, drafted: list[int], accepted: list[int], tokens: list[int]) -> RoundOutcome:
    rows = len(drafted)
    drawn = [Drawn(torch.full((rows,), token), torch.full((rows,), 0.5)) for token in tokens]
    signals = [Signals(max_probability=torch.full((rows,), 0.5)) for _ in tokens]
    return RoundOutcome(of, torch.tensor(drafted), torch.tensor(accepted), torch.tensor(1.0), signals, drawn)


@pytest.mark.parametrize(("following", "positions"), [(0.93, 1), (0.95, 2)])
def test_a_token_must_be_worth_its_time(following: float, positions: int) -> None:
    """ρ = 1.2 and c + v = 0.5: the bar is 0.6. S·a is 0.8·0.93 = 0.744, 0.64·0.93 = 0.595; 0.64·0.95 = 0.608."""
    state = state_with(pace=[2.4, 2.0], **sure(0.8, following))
    _, state = Goodput().plan(state, context())
    decisions = []
    for position in range(2):
        more, state = extends(state, position)
        decisions.append(more)
    assert decisions == [True, positions == 2]


@pytest.mark.parametrize(("first", "gain", "cap"), [(0.61, 0.0, 8), (0.59, 0.0, 0), (0.59, 0.1, 8), (0.61, -1.0, 8)])
def test_a_block_must_be_worth_beginning(first: float, gain: float, cap: int) -> None:
    """The bar is 0.6: 0.61 is above, 0.59 below, 0.59·1.1 = 0.649 above; a loss counts as no gain."""
    state = state_with(pace=[2.4, 2.0], gain=gain, **sure(0.5, first))
    assert Goodput().plan(state, context())[0].tolist() == [cap]


def test_waits_between_tries() -> None:
    """With a draft step of 100 nothing pays. Tries come after 4 rounds without, then 6, then 9."""
    policy, drafting = Goodput(), list[int]()
    with patch.dict(vars(goodput), FIRST_WAIT=4.0, PATIENCE=1.5, LONGEST_WAIT=64.0):
        state = state_with()
        for number in range(24):
            before = context(draft_step=100)
            cap, state = policy.plan(state, before)
            if cap.tolist() == [0]:
                state = policy.learn(state, outcome(before, [0], [0], []))
                continue
            drafting.append(number)
            assert not extends(state)[0], "a try is one token"
            state = policy.learn(state, outcome(before, [1], [0], [1]))
    assert drafting == [4, 11, 21]
    assert state["wait"].tolist() == [13.5]


def test_a_batch_shares_the_cost() -> None:
    """Four rows that all go on pay a quarter each, to be spent by all: no change. If half do, the bar is 4/2.5."""
    rate, step = 1.2, 0.5
    state = state_with(batch_size=4, pace=[2.4, 2.0], reach=[1.0, 1.0, 0.5] + [0.0] * (goodput.LONGEST - 3))
    _, state = Goodput().plan(state, context(rows=4))
    bars = [rate * step, rate * step * 4 / 2.5, rate * step * 4]
    assert state["worth"][:4].tolist() == pytest.approx([bars[0], *bars])


def test_what_became_of_a_text_is_remembered() -> None:
    """After 3 came 5, accepted, then 7, rejected: so it is told when 3, 5 comes again, and of no other sequence."""
    policy, before = Goodput(), context(last_token=3)
    _, state = policy.plan(state_with(batch_size=2), context(last_token=3, rows=2))
    drafted = outcome(replace(before, active=torch.tensor([True, False])), [2, 0], [1, 0], [5, 7])
    state = policy.learn(state, drafted).where(torch.tensor([True, False]), state)
    share = torch.tensor(acceptance_model.RECALL).half().item()
    assert told(state, 0, 3) == {"own": [share], "next": [share]}
    assert told(state, 0, 3, 5) == {"own": [share] * 2, "next": [-share] * 2}
    assert told(state, 0, 3, 5, 7) == {"own": [-share] * 3, "next": [0.0] * 3}
    assert told(state, 1, 3) == {"own": [share], "next": [0.0]}
    assert told(state, 1, 3, 5) == {"own": [0.0] * 2, "next": [0.0] * 2}


def told(state: State, row: int, *text: int) -> dict[str, list[float]]:
    """What is remembered of the last 1, 2, … tokens of `text`, and of the draft after them."""
    newest_first = [*reversed(text), *[0] * (acceptance_model.LENGTHS - len(text))]
    places = acceptance_model._places(torch.tensor([newest_first]), state["powers"])
    following, own = state["fates"][row : row + 1].gather(2, places)[0, :, : len(text)].tolist()
    return {"own": own, "next": following}


def test_a_text_that_repeats_untried_is_tried() -> None:
    """Where four tokens come again and nothing was drawn after them, more is expected of a first token."""
    state, odds = state_with(), []
    for token in (1, 2, 3, 4) * 2:
        chance, state = acceptance_model.begin(state, torch.tensor([token]))
        odds.append(chance.logit().item())
    assert odds[:7] == pytest.approx([odds[0]] * 7)
    expected = odds[0] + acceptance_model.CURIOSITY * acceptance_model.RECALL
    assert odds[7] == pytest.approx(expected, rel=1e-3), "remembered in 16 bits"


def test_nothing_is_learned_past_the_first_rejection() -> None:
    """Of five drafted and one accepted two are judged; the other three could have been any."""
    policy, before = Goodput(), context()
    _, state = policy.plan(state_with(), before)
    learned = [policy.learn(state, outcome(before, [5], [1], [1, 2, *rest])) for rest in ([3, 4, 5], [2, 2, 2])]
    for name in (*state.rows, *state.shared):
        assert torch.equal(learned[0][name], learned[1][name]), name
    assert learned[0]["agreement"].tolist() == [0.0], "one of two"
    entries = learned[0]["fates"].ne(0).sum(2).tolist()
    assert entries == [[8, 12]], "texts before the two, and those that end in them or in the last token"


def test_a_first_step() -> None:
    """All is 0 but the constant of own, 0.3: that moves by missed / (prior + curvature)."""
    policy, before = Goodput(), context()
    rest = [0] * (acceptance_model.LENGTHS + 2)
    _, state = policy.plan(state_with(weights=[[0.0, *rest], [0.3, *rest]]), before)
    state = policy.learn(state, outcome(before, [1], [1], [1]))
    chance = 1 / (1 + math.exp(-0.3))
    moved = (1 - chance) / (acceptance_model.PRIOR_PRECISION + chance * (1 - chance))
    assert state["weights"][acceptance_model.OWN].tolist() == pytest.approx([0.3 + moved, *rest])


def test_at_temperature_0_confidence_is_the_untempered_one() -> None:
    """The distribution that is drawn from is one-hot; what signals describe says how sure the draft is."""
    _, state = Goodput().plan(state_with(), context())
    signals = Signals(max_probability=torch.tensor([0.7]))
    position = torch.tensor([0])
    chances = [
        Goodput().estimate(state, position, signals, Drawn(torch.tensor([1]), torch.tensor([probability])))
        for probability in (1.0, 0.7)
    ]
    assert torch.equal(*chances)
