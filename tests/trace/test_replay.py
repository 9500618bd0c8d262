"""A replay, followed by hand: rounds, counts, seconds, limits, ends, and what a policy carries over."""

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import stopkit
import stopkit.trace.replay
from stopkit import RoundContext, RoundOutcome, StoppingPolicy
from stopkit.costs import FixedCosts
from stopkit.decode import Generation
from stopkit.errors import InputError, PolicyError
from stopkit.generation import Continuation
from stopkit.state import State
from stopkit.statistics import Statistics, total
from stopkit.trace.replay import ReplayDecoding, priced, replay
from stopkit.trace.trace import Trace
from tests.trace.traces import Start, by_chance, trace

COSTS = FixedCosts(draft_step=0.25, verify=1, verify_token=0.125)
SECONDS = {"policy": 0.0, "other": 0.0}

SIX = [Start(5, 4, 2), Start(4, 4, 0), Start(3, 3, 3), Start(2, 2, 0), Start(1, 1, 1), Start(0, 0, 0)]
"""A sequence that six tokens ended for want of room; of the rollout of its first start two tokens are accepted."""
ENDED = [Start(9, 4, 1), Start(8, 2, 2), Start(7, 1, 1)]
"""A sequence whose third token ended it, and rollouts with it."""


@pytest.fixture
def made(tmp_path: Path) -> Trace:
    return trace(tmp_path, [SIX, ENDED])


def counts(trace: Trace, policy: str | StoppingPolicy) -> list[Statistics]:
    (found,) = replay(trace, stopkit.load_policy(policy), [COSTS])
    return list(found.sequences)


def test_rounds_by_hand(made: Trace) -> None:
    six, ended = counts(made, "static:length=3")
    # at 0: 3 drafted, 2 accepted; at 3: 2 drafted (limit), 0 accepted; at 4: 1 drafted, 1 accepted, then the sixth
    assert six == Statistics(
        tokens=6,
        rounds=3,
        drafted=6,
        accepted=3,
        offered_by_position=[3, 2, 1],
        accepted_by_position=[2, 1, 0],
        draft_forwards=6,
        target_forwards=3,
        seconds=SECONDS | {"draft": 6 * 0.25, "verify": 3 + 6 * 0.125},
    )
    # at 0: 3 drafted, 1 accepted; at 2: 1 drafted (the token that ends it), 1 accepted
    assert (ended.tokens, ended.rounds, ended.drafted, ended.accepted) == (3, 2, 4, 2)
    assert ended.offered_by_position == [2, 1, 1]
    assert ended.draft_forwards == 4


def test_no_drafting(made: Trace) -> None:
    six, ended = counts(made, "autoregressive")
    assert (six.tokens, six.rounds, six.drafted, six.target_forwards) == (6, 6, 0, 6)
    assert (ended.tokens, ended.rounds, ended.draft_forwards) == (3, 3, 0)
    (found,) = replay(made, stopkit.load_policy("autoregressive"), [COSTS])
    assert found.speedup == 1


class Chooser(StoppingPolicy):
    """Pays for a look at the second position and does not take it."""

    kind: ClassVar[str] = "chooser"

    def admit(self, state: State, position: Tensor, signals: object) -> tuple[Tensor, State]:
        return position < 1, state


def test_a_position_that_is_looked_at_costs_a_forward(made: Trace) -> None:
    six, _ = counts(made, Chooser())
    # at 0: 1 of 1; at 2: 1 of 1; at 4: 1 of 1 (the limit: no look at a second)
    assert (six.rounds, six.drafted, six.draft_forwards) == (3, 3, 5)
    assert six.seconds["draft"] == 5 * 0.25


def test_tokens_and_reasons(made: Trace) -> None:
    policy = stopkit.load_policy("static:length=3")
    decoding = ReplayDecoding(made, torch.tensor([0, 1]), frozenset())
    assert [continuation.finish_reason for continuation in _result(policy, decoding)] == ["length", "eos"]
    tokens = [
        continuation.tokens for continuation in _result(policy, ReplayDecoding(made, torch.tensor([1]), frozenset()))
    ]
    assert tokens == [made.output[6:].tolist()]


def _result(policy: StoppingPolicy, decoding: ReplayDecoding) -> list[Continuation]:
    return Generation(policy, decoding).run().continuations


class Growing(StoppingPolicy):
    """As many tokens as there were rounds before, in all sequences or in this one."""

    kind: ClassVar[str] = "growing"

    shared: bool = True

    def init(self, batch_size: int, device: torch.device) -> State:
        return State.learned(batch_size, device, shared=self.shared, rounds=0)

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return torch.minimum(state["rounds"].long(), context.limit), state

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        return state.moved(outcome.context.active, rounds=state["rounds"] + 1)


def test_what_is_carried_over_goes_on_in_the_order_of_the_trace(made: Trace) -> None:
    six, ended = counts(made, Growing())
    # at 0: 0; at 1: 1 of which 0; at 2: 2 of which 2; at 5: limit 0. After 4 rounds: at 0: 4 of which 1; at 2: 1
    assert (six.rounds, six.drafted, six.accepted) == (4, 3, 2)
    assert (ended.rounds, ended.drafted, ended.accepted) == (2, 5, 2)
    ended, six = counts(made.select([1, 0]), Growing())
    # at 0: 0; at 1: 1 of which 1. Then 2 rounds are over: at 0: 2 of which 2; at 3: 2 (limit) of which 0; at 4: 1 of 1
    assert (ended.rounds, ended.drafted, ended.accepted) == (2, 1, 1)
    assert (six.rounds, six.drafted, six.accepted) == (3, 5, 3)


def test_what_belongs_to_a_sequence_ends_with_it(made: Trace) -> None:
    _, ended = counts(made, Growing(shared=False))
    assert (ended.rounds, ended.drafted, ended.accepted) == (2, 1, 1)


class Spender(StoppingPolicy):
    """Two tokens where drafting is cheap, else one; `sees` says where it looks."""

    kind: ClassVar[str] = "spender"

    sees: str = "plan"

    def init(self, batch_size: int, device: torch.device) -> State:
        return State(rows={"length": torch.ones(batch_size, dtype=torch.long, device=device)})

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        length = state.rows["length"]
        if self.sees == "plan":
            length = length + (context.costs.draft_step < 0.1)
        return torch.minimum(length, context.limit), state

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        if self.sees == "seconds":
            return State(rows={"length": 1 + (outcome.seconds < 1.2).long().expand_as(outcome.drafted)})
        return state


CHEAP, DEAR = FixedCosts(draft_step=0.05, verify=1), FixedCosts(draft_step=0.5, verify=1)


def test_every_cost_has_its_own_rounds(made: Trace) -> None:
    cheap, dear = replay(made.select([0]), Spender(), [CHEAP, DEAR])
    # cheap: at 0 2 of 2, at 3 2 of 0, at 4 1 of 1; dear: at 0 1 of 1, at 2 1 of 1, at 4 1 of 1
    assert (cheap.stats.drafted, cheap.stats.rounds) == (5, 3)
    assert (dear.stats.drafted, dear.stats.rounds) == (3, 3)
    assert cheap.stats.seconds["draft"] == pytest.approx(5 * 0.05)
    assert dear.stats.seconds["draft"] == 3 * 0.5


def test_seconds_of_a_round_are_those_of_its_cost(made: Trace) -> None:
    cheap, dear = replay(made.select([0]), Spender(sees="seconds"), [CHEAP, DEAR])
    # cheap: 1 of 1 in 1.05 seconds, then at 2 2 of 2, at 5 limit 0; dear: 1 of 1 in 1.5 seconds, and so on
    assert cheap.stats.offered_by_position == [2, 1]
    assert dear.stats.offered_by_position == [3]


@pytest.mark.parametrize(("sees", "runs"), [("nothing", 1), ("plan", 3), ("seconds", 3)])
def test_who_looks_at_no_costs_is_replayed_once(
    made: Trace, sees: str, runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []

    begin = ReplayDecoding.__init__

    def watched(self: ReplayDecoding, trace: Trace, sequences: Tensor, *more: Any) -> None:
        begin(self, trace, sequences, *more)
        rows.append(len(sequences))

    monkeypatch.setattr(ReplayDecoding, "__init__", watched)
    found = replay(made, Spender(sees=sees), [CHEAP, DEAR, COSTS])
    assert rows[-1] == 2 * runs
    assert [one.costs for one in found] == [CHEAP, DEAR, COSTS]


class Broken(StoppingPolicy):
    """Fails in its first round."""

    kind: ClassVar[str] = "broken"

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        raise RuntimeError("broken on purpose")


def test_a_policy_that_fails_is_not_taken_for_one_that_looks_at_costs(made: Trace) -> None:
    with pytest.raises(PolicyError, match="broken on purpose"):
        replay(made, Broken(), [COSTS])


class Reader(StoppingPolicy):
    """Reads what few traces hold."""

    kind: ClassVar[str] = "reader"
    signals: ClassVar[frozenset[str]] = frozenset({"hidden_state"})


class Logician(StoppingPolicy):
    """Reads what no trace holds."""

    kind: ClassVar[str] = "logician"
    signals: ClassVar[frozenset[str]] = frozenset({"entropy", "logits"})


@pytest.mark.parametrize(
    ("policy", "line"),
    [
        (Reader(), "policy 'reader': reads hidden_state; record with --hidden-state."),
        (Logician(), "policy 'logician': reads logits; no trace holds it."),
    ],
)
def test_signals_that_were_not_recorded(made: Trace, policy: StoppingPolicy, line: str) -> None:
    with pytest.raises(InputError) as raised:
        replay(made, policy, [COSTS])
    assert str(raised.value) == line


def test_sequences_add_up(tmp_path: Path) -> None:
    lengths = [9, 14, 1, 6, 11]
    made = trace(tmp_path, by_chance(3, lengths))
    for spec in ("adaedl:threshold=0.3", "bandit", "static:length=9", "autoregressive"):
        for found in replay(made, stopkit.load_policy(spec), [CHEAP, DEAR]):
            assert [stats.tokens for stats in found.sequences] == lengths
            assert found.stats == total(found.sequences)
            for stats in found.sequences:
                assert stats.target_forwards == stats.rounds
                assert stats.draft_forwards >= stats.drafted == sum(stats.offered_by_position)
                assert stats.accepted == sum(stats.accepted_by_position)
                assert 0 <= stats.rounds + stats.accepted - stats.tokens <= 1, "no bonus token after the end"
                assert priced(stats, found.costs) == stats
            assert found.speedup == pytest.approx(sum(lengths) / sum(found.stats.seconds.values()))


def test_shortened_is_as_if_fewer_tokens_had_been_asked_for(made: Trace) -> None:
    short = made.shortened(4)
    six, ended = counts(short, "static:length=3")
    # at 0: 3 drafted (limit), 2 accepted; at 3: nothing left to draft. The other had three tokens: limit 3, then 1
    assert (six.tokens, six.rounds, six.drafted, six.accepted) == (4, 2, 3, 2)
    assert (ended.tokens, ended.rounds, ended.drafted) == (3, 2, 4)
    assert [stats.tokens for stats in counts(made.shortened(1), "static:length=3")] == [1, 1]
    assert counts(made.shortened(99), "adaedl") == counts(made, "adaedl")


def test_progress_is_told_to_its_end(made: Trace) -> None:
    for policy in (Spender(), Growing(), stopkit.load_policy("static")):
        parts: list[float] = []
        replay(made, policy, [CHEAP, DEAR], parts.append)
        assert sum(parts) == pytest.approx(1)
