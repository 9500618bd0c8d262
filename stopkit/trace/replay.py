"""A trace as an engine: rounds over recorded rollouts, run by the one loop, for any policy, at any costs.

A round that begins at start s drafts the recorded rollout of s as far as the policy wants, accepts as much of it as was
recorded to be accepted, and goes on at the start after the target's own token. That has exactly the law of a real round
(docs/explanation/replay.md).

A policy that never looks at costs does the same at all of them: it is replayed once, and priced afterwards. To others
every pair of costs is a lane (`stopkit.trace.lanes`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from stopkit.controller import DraftController
from stopkit.costs import CostModel, Costs, FixedCosts
from stopkit.decode import Generation
from stopkit.decoding import Commitment, Decoding, Proposal, Verification
from stopkit.errors import InputError, PolicyError
from stopkit.generation import Continuation, GenerationResult
from stopkit.intervals import Work
from stopkit.policy import Drawn, RoundContext, StoppingPolicy
from stopkit.signals import Signals
from stopkit.state import State
from stopkit.statistics import PHASES, Statistics, Stopwatch, total
from stopkit.trace.format import COLUMNS
from stopkit.trace.lanes import Lanes
from stopkit.trace.trace import Trace

WIDTH = 512
"""Most rows that are replayed side by side; more take memory and no less time a row."""


class CostsSeen(Exception):
    """A policy looked at costs or seconds that it was not meant to see."""


class _Unseen(Tensor):
    """Can be passed on and kept; every operation on it raises CostsSeen."""

    @classmethod
    def __torch_function__(cls, *operation: Any, **more: Any) -> Any:
        raise CostsSeen


UNSEEN: Tensor = torch.ones((), dtype=torch.float64).as_subclass(_Unseen)
"""A number that nobody may look at: how a replay finds out that a policy does not care what time costs."""


class ReplayDecoding(Decoding):
    """Rows [L] of recorded sequences; row r replays `trace.sequences[sequences[r]]`, at `costs[r]` if there are any.

    Rows are engines of their own with a batch of one. With `costs`, those in the context and the seconds in the outcome
    are [L]; without, whoever looks at them raises CostsSeen. The result's seconds are zero: see `priced`.
    """

    def __init__(
        self, trace: Trace, sequences: Tensor, signals: frozenset[str], costs: Sequence[FixedCosts] | None = None
    ) -> None:
        self.device = trace.output.device
        self.sequence_count = len(sequences)
        self.stopwatch = Stopwatch(self.device)
        self.costs = CostModel()
        self._trace, self._signals = trace, sorted(signals)
        self._first, self._end = trace.first[sequences], trace.first[sequences + 1]
        self._prices = _each(costs) if costs else None
        self._at = self._first
        self._steps = torch.zeros_like(self._at)
        self._alone = torch.ones((), dtype=torch.long)
        self._begin_round()

    def _begin_round(self) -> None:
        self._active = self._at < self._end
        self._start = self._at.clamp(max=self._trace.tokens - 1)
        self._recorded = self._trace.drafted[self._start]
        self._forwards = torch.zeros_like(self._at)

    @property
    def seated(self) -> Sequence[int]:
        return range(self.sequence_count)

    @property
    def finished(self) -> bool:
        return not bool(self._active.any())

    def context(self) -> RoundContext:
        limit = self._trace.limit[self._start].where(self._active, 0)
        costs = self._prices or Costs(*[UNSEEN] * 5)
        trace, at = self._trace, self._start
        told = (column[at] for column in (trace.last_token, trace.length, trace.entropy))
        return RoundContext(self._active, limit, costs, self._alone, *told)

    def propose(self, live: Tensor, drafted: Tensor) -> Proposal:
        self._forwards = self._forwards + live
        signals = {name: self._position(name, drafted) for name in self._signals}
        return Proposal(Signals(**signals), torch.ones_like(live))

    def commit(self, live: Tensor, drafted: Tensor) -> Commitment:
        drawn = Drawn(self._position("token", drafted), self._position("drawn_probability", drafted))
        return Commitment(drawn, drafted + 1 < self._recorded)

    def _position(self, name: str, position: Tensor) -> Tensor:
        column = self._trace.columns[name]
        return column[self._start, position.clamp(max=column.shape[1] - 1)]

    def verify(self, drafted: Tensor) -> Verification:
        accepted = torch.minimum(drafted, self._trace.run[self._start])
        seconds = UNSEEN
        if self._prices:
            seconds = self._prices.round(drafted, self._forwards)
        self._steps = self._steps + self._forwards
        self._at = self._at + (accepted + 1).where(self._active, 0)
        self._begin_round()
        return Verification(accepted, seconds)

    def result(self, controller: DraftController) -> GenerationResult:
        ends = torch.minimum(self._at, self._end)
        places = torch.stack([self._first, ends, self._end, self._steps], 1).tolist()
        continuations = []
        for counts, (first, end, last, steps) in zip(controller.sequences, places, strict=True):
            tokens = self._trace.output[first:end].tolist()
            stats = replace(counts, tokens=end - first, draft_forwards=steps, target_forwards=counts.rounds)
            continuations.append(Continuation(tokens, [], "", self._reason(end) if end == last else None, stats))
        whole = total([continuation.stats for continuation in continuations])
        return GenerationResult(continuations, whole, controller.state)

    def _reason(self, end: int) -> str:
        """Why a sequence that is over at `end` is: a token ended it if there had been room for more."""
        return "eos" if self._trace.limit[end - 1] else "length"


@dataclass(frozen=True)
class Replay:
    """What a policy did on a trace at one pair of costs, sequence by sequence."""

    costs: FixedCosts
    sequences: tuple[Statistics, ...]

    @property
    def stats(self) -> Statistics:
        """The statistics of all sequences together."""
        return total(self.sequences)

    @property
    def speedup(self) -> float:
        """Tokens per target-step time."""
        return self.stats.tokens_per_second * self.costs.verify

    @property
    def work(self) -> Work:
        """What was done on every sequence, once."""
        done = [(stats.tokens, sum(stats.seconds.values())) for stats in self.sequences]
        tokens, seconds = torch.tensor(done, dtype=torch.float64).unsqueeze(2).unbind(1)
        return Work(tokens, seconds)


def lacking(trace: Trace, policy: StoppingPolicy) -> str | None:
    """Why `trace` cannot serve `policy`; None if it can."""
    recorded = trace.columns.keys() | ({"hidden_state"} if trace.metadata.hidden_state else set())
    missing = policy.required_signals - recorded
    untold = {f"context.{name}" for name in policy.required_context - trace.tells}
    if not missing | untold:
        return None
    newer = untold | (missing & {column.name for column in COLUMNS})
    hint = "no trace holds it"
    if missing == {"hidden_state"}:
        hint = "record with --hidden-state"
    elif newer:
        hint = "this trace is of an earlier version; record it again"
    return f"reads {', '.join(sorted(missing | untold))}; {hint}"


@torch.inference_mode()
def replay(
    trace: Trace, policy: StoppingPolicy, costs: Sequence[FixedCosts], tick: Callable[[float], None] = lambda part: None
) -> list[Replay]:
    """`policy` on every sequence of `trace`, one sequence at a time, at each of `costs`.

    What a policy carries over goes on from sequence to sequence, in the order of the trace. `tick(part)` is told what
    part of the work has been done since it was last called. Raises InputError if the policy reads signals that the
    trace does not hold.
    """
    if reason := lacking(trace, policy):
        raise InputError(f"policy {policy.kind!r}: {reason}.")
    counts = _unpriced(trace, policy, tick)
    worlds = [counts] * len(costs) if counts else _counts(trace, Lanes(policy=policy), costs, tick)
    return [
        Replay(cost, tuple(priced(stats, cost) for stats in world)) for cost, world in zip(costs, worlds, strict=True)
    ]


def generations(
    trace: Trace,
    policy: StoppingPolicy,
    costs: Sequence[FixedCosts] | None,
    decoding: type[ReplayDecoding] = ReplayDecoding,
) -> Iterator[tuple[int, Generation]]:
    """Every sequence of `trace`, in order, some side by side: how many, and their generation when it is done.

    With `costs`, `policy` is Lanes, and a generation has its sequences once at each of them, one after another. What
    the policy carries over goes on from sequence to sequence, which are then run one by one.
    """
    if "hidden_state" in policy.required_signals:
        trace = trace.with_hidden_state
    worlds, carries = len(costs) if costs else 1, policy.carries_over
    width = 1 if carries else max(1, WIDTH // worlds)
    state: State | None = None
    for chunk in torch.split(torch.arange(len(trace.sequences)), width):
        each = [cost for cost in costs for _ in chunk] if costs else None
        rows = decoding(trace, chunk.repeat(worlds), policy.required_signals, each)
        generation = Generation(policy, rows, state)
        generation.run()
        if carries:
            learned = generation.controller.state
            state = policy.outlived(learned) if isinstance(policy, Lanes) else learned.outlived()
        yield len(chunk), generation


def _unpriced(trace: Trace, policy: StoppingPolicy, tick: Callable[[float], None]) -> list[Statistics] | None:
    """The counts of every sequence, whatever the costs; None if the policy looks at them."""
    if policy.couples_rows and not policy.carries_over:
        return None  # its rows mind each other for another reason: they have to be lanes
    try:
        return _counts(trace, policy, None, tick)[0]
    except PolicyError as error:
        if not isinstance(error.__cause__, CostsSeen):
            raise
        return None


def _counts(
    trace: Trace, policy: StoppingPolicy, costs: Sequence[FixedCosts] | None, tick: Callable[[float], None]
) -> list[list[Statistics]]:
    """The counts of every sequence, at each of `costs`, or once if there are none."""
    worlds: list[list[Statistics]] = [[] for _ in range(len(costs) if costs else 1)]
    for count, generation in generations(trace, policy, costs):
        for row, continuation in enumerate(generation.result().continuations):
            worlds[row // count].append(continuation.stats)
        tick(count / len(trace.sequences))
    return worlds


def _each(costs: Sequence[FixedCosts]) -> Costs:
    """The costs of rows, [L] each."""
    return Costs(*torch.tensor([cost.values for cost in costs], dtype=torch.float64).unbind(1))


def priced(stats: Statistics, costs: FixedCosts) -> Statistics:
    """The same counts with what they take at `costs`: a policy's own time is not counted."""
    blocks = sum(stats.offered_by_position[:1])
    drafting = costs.draftings(stats.draft_forwards, blocks)
    verifying = costs.verifications(stats.rounds, stats.drafted, blocks)
    return replace(stats, seconds={**dict.fromkeys(PHASES, 0.0), "draft": drafting, "verify": verifying})
