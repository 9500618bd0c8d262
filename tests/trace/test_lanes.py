"""A policy replayed in lanes, or once for all costs, does what it does in engines of its own, with a batch of one."""

from typing import ClassVar

import pytest
import torch
from torch import Tensor

import stopkit
from stopkit import RoundContext, RoundOutcome, ScalarPolicy, Signals, StoppingPolicy
from stopkit.costs import FixedCosts
from stopkit.decode import Generation
from stopkit.scalar import Memory, Position
from stopkit.state import State
from stopkit.statistics import Statistics
from stopkit.trace.comparison import servable
from stopkit.trace.lanes import Lanes
from stopkit.trace.replay import ReplayDecoding, replay
from stopkit.trace.trace import Trace
from tests.trace.traces import by_chance, one_by_one, trace

COSTS = [
    FixedCosts(draft_step=0.02, verify=1, verify_token=0.02),
    FixedCosts(draft_step=0.4, verify=1, verify_token=0),
    FixedCosts(draft_step=0.003, verify=0.02, verify_token=0.01),
]
LENGTHS = [9, 1, 7, 6]
ROUNDING = 1e-10
"""Sums of products are added up in another order where many matrices are multiplied at once."""
Alone = dict[str, list[tuple[list[Statistics], list[State]]]]


class Patient(ScalarPolicy):
    """Goes on after uncertain tokens as long as things go well; waits for the device at every verb."""

    kind: ClassVar[str] = "patient"
    signals: ClassVar[frozenset[str]] = frozenset({"max_probability"})

    def start(self) -> Memory:
        return {"luck": 1.0}

    def cap(self, memory: Memory, limit: int) -> int:
        return min(limit, 1 + int(memory["luck"]))

    def enter(self, memory: Memory, position: Position) -> bool:
        return memory["luck"] > 1 or (position.max_probability or 0) > 0.2

    def go_on(self, memory: Memory, position: Position, token: int, probability: float) -> bool:
        return token % 3 > 0

    def update(self, memory: Memory, drafted: int, accepted: int) -> None:
        memory["luck"] = 0.5 * memory["luck"] + accepted


class Thrifty(StoppingPolicy):
    """Looks at everything there is: costs, seconds, signals and tokens; with `on_the_host` it cannot be vectorised."""

    kind: ClassVar[str] = "thrifty"
    signals: ClassVar[frozenset[str]] = frozenset({"entropy", "margin"})

    on_the_host: bool = False
    shared: bool = False

    def init(self, batch_size: int, device: torch.device) -> State:
        return State.learned(batch_size, device, shared=self.shared, gain=0.5, rounds=0)

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        return signals.entropy < 1 + state["gain"], state

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        seen = torch.zeros_like(outcome.seconds)
        for position, (signals, drawn) in enumerate(zip(outcome.signals, outcome.drawn, strict=False)):
            seen = seen + (signals.margin * drawn.probability).where(position < outcome.drafted, 0).sum()
        step = float(outcome.context.costs.draft_step) if self.on_the_host else outcome.context.costs.draft_step
        gain = (outcome.accepted + 0.01 * seen - step * outcome.drafted) / (1 + outcome.seconds)
        return state.moved(outcome.context.active, gain=0.7 * state["gain"] + 0.3 * gain, rounds=state["rounds"] + 1)


class Hesitant(StoppingPolicy):
    """Drafts nothing in every second round of a sequence, so that there is nothing to see in it."""

    kind: ClassVar[str] = "hesitant"

    def init(self, batch_size: int, device: torch.device) -> State:
        return State(rows={"round": torch.zeros(batch_size, dtype=torch.long, device=device)})

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        often = (context.costs.draft_step < 0.1).long()
        return context.limit * ((state.rows["round"] + often) % 2), state

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        return State(rows={"round": state.rows["round"] + 1})


def policies(served: Trace) -> dict[str, StoppingPolicy]:
    """Every registered policy with its defaults and with what it learns shared or not; and some that look at more."""
    named, _ = servable(served)
    either = {
        f"{name} {carry}": type(policy).model_validate({**dict(policy), "carry_over": carry})
        for name, policy in named.items()
        if "carry_over" in type(policy).model_fields
        for carry in (False, True)
    }
    moving = {
        name: stopkit.load_policy(name)
        for name in ("adaedl:update=algorithm1,carry_over=true", "first_of:policies=[best_length,ema_length]")
    }
    odd = [Patient(), Hesitant(), *(Thrifty(on_the_host=host, shared=both) for host in (0, 1) for both in (0, 1))]
    return named | either | moving | {repr(policy): policy for policy in odd}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    return trace(tmp_path_factory.mktemp("trace"), by_chance(1, LENGTHS))


@pytest.fixture(scope="module")
def alone(recorded: Trace) -> Alone:
    """What each policy does in engines of its own, at each of the costs."""
    return {
        name: [one_by_one(recorded, policy, costs) for costs in COSTS] for name, policy in policies(recorded).items()
    }


def test_replayed_as_in_engines_of_its_own(recorded: Trace, alone: Alone) -> None:
    for name, policy in policies(recorded).items():
        for found, (sequences, _) in zip(replay(recorded, policy, COSTS), alone[name], strict=True):
            assert list(found.sequences) == sequences, f"{name} at {found.costs}"


def test_lanes_remember_what_engines_of_their_own_would(recorded: Trace, alone: Alone) -> None:
    for name, policy in policies(recorded).items():
        lanes = Lanes(policy=policy)
        state: State | None = None
        for sequence in range(len(LENGTHS)):
            rows = torch.full((len(COSTS),), sequence)
            with torch.inference_mode():
                decoding = ReplayDecoding(recorded, rows, policy.required_signals, COSTS)
                state = Generation(lanes, decoding, state).run().state
            for lane, (_, states) in enumerate(alone[name]):
                for place, value in states[sequence].flat().items():
                    same = torch.allclose(state.rows[place][lane], value, rtol=ROUNDING, atol=ROUNDING)
                    assert same, f"{name}, lane {lane}, {place}"
            state = lanes.outlived(state)


def test_lanes_share_nothing(recorded: Trace) -> None:
    policy = Thrifty(shared=True)
    assert policy.couples_rows
    assert not Lanes(policy=policy).couples_rows
    together, alone = replay(recorded, policy, COSTS), replay(recorded, policy, COSTS[1:2])
    assert together[1] == alone[0]
    assert together[0].sequences != together[1].sequences


def test_what_cannot_be_vectorised_is_asked_lane_by_lane(recorded: Trace) -> None:
    lanes = Lanes(policy=Thrifty(on_the_host=True))
    Generation(lanes, ReplayDecoding(recorded, torch.tensor([0, 1]), lanes.required_signals, COSTS[:2])).run()
    assert lanes._one_by_one == {"learn"}


def test_the_tests_above_would_notice_lanes_that_share(recorded: Trace) -> None:
    """A batch of rows that learn together is not what engines of their own do."""
    policy = Thrifty(shared=True)
    rows = torch.full((2,), 0)
    together = Generation(policy, ReplayDecoding(recorded, rows, policy.required_signals, COSTS[:2])).run().state
    assert not torch.equal(together.shared["gain"], one_by_one(recorded.select([0]), policy, COSTS[0])[1][0]["gain"])


def test_the_trace_is_worth_it(recorded: Trace) -> None:
    """Sequences end by length and by a token, and runs of all lengths occur."""
    last = recorded.limit[recorded.first[1:] - 1]
    assert (last == 0).any()
    assert (last > 0).any()
    assert set(recorded.run.tolist()) == {0, 1, 2, 3, 4}
