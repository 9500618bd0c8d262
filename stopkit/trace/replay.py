"""A trace as an engine: rounds over recorded rollouts, run by the one loop, for any policy, at any costs.

A round that begins at start s drafts the recorded rollout of s as far as the policy wants, accepts as much of it as was
recorded to be accepted, and goes on at the start after the target's own token. That has exactly the law of a real round
(docs/explanation/replay.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stopkit.controller import DraftController
from stopkit.costs import Costs, FixedCosts
from stopkit.decode import decode
from stopkit.engine import Commitment, Continuation, Decoding, GenerationResult, Proposal, Verdict
from stopkit.errors import InputError
from stopkit.policy import Drawn, RoundContext, Signals, StoppingPolicy
from stopkit.state import State
from stopkit.statistics import Statistics, Stopwatch, total
from stopkit.trace.lanes import Lanes
from stopkit.trace.trace import Trace

WIDTH = 512
"""Most rows that are replayed side by side; more take memory and no less time a row."""


class ReplayDecoding(Decoding):
    """Rows [L] of recorded sequences; row r replays `trace.sequences[sequences[r]]` at `costs[r]`.

    Rows are engines of their own with a batch of one: costs in the context and seconds in the outcome are [L].
    """

    def __init__(self, trace: Trace, sequences: Tensor, costs: Sequence[FixedCosts], signals: frozenset[str]) -> None:
        self.device = trace.output.device
        self.batch_size = len(sequences)
        self.stopwatch = Stopwatch(self.device)
        self._trace, self._signals, self._sequences = trace, signals, sequences
        self._first, self._end = trace.first[sequences], trace.first[sequences + 1]
        self._costs = Costs(
            *(
                torch.tensor([getattr(cost, name) for cost in costs], dtype=torch.float64)
                for name in ("draft_step", "verify", "verify_token")
            )
        )
        self._at = self._first
        self._steps = torch.zeros_like(self._at)
        self._spent = torch.zeros(2, self.batch_size, dtype=torch.float64)
        self._begin_round()

    def _begin_round(self) -> None:
        self._active = self._at < self._end
        self._start = self._at.clamp(max=self._trace.tokens - 1)
        self._drafted = torch.zeros_like(self._at)
        self._forwards = torch.zeros_like(self._at)

    @property
    def finished(self) -> bool:
        return not bool(self._active.any())

    def context(self) -> RoundContext:
        limit = self._trace.limit[self._start].where(self._active, 0)
        return RoundContext(self._active, limit, self._costs, torch.ones((), dtype=torch.long))

    def propose(self, live: Tensor) -> Proposal:
        self._forwards = self._forwards + live
        return Proposal(Signals(**{name: self._recorded(name) for name in self._signals}), torch.ones_like(live))

    def commit(self, live: Tensor) -> Commitment:
        drawn = Drawn(self._recorded("token"), self._recorded("drawn_probability"))
        self._drafted = self._drafted + live
        return Commitment(drawn, self._drafted < self._trace.drafted[self._start])

    def _recorded(self, name: str) -> Tensor:
        column = self._trace.columns[name]
        return column[self._start, self._drafted.clamp(max=column.shape[1] - 1)]

    def verify(self) -> Verdict:
        accepted = torch.minimum(self._drafted, self._trace.run[self._start])
        drafting = self._costs.draft_step * self._forwards
        verifying = self._costs.verification(self._drafted).where(self._active, 0.0)
        self._spent = self._spent + torch.stack([drafting, verifying])
        self._steps = self._steps + self._forwards
        self._at = self._at + (accepted + 1).where(self._active, 0)
        self._begin_round()
        return Verdict(accepted, drafting + verifying)

    def result(self, controller: DraftController) -> GenerationResult:
        rows = zip(controller.sequences, self._steps.tolist(), *self._spent.tolist(), self._ends(), strict=True)
        continuations = []
        for row, (counts, steps, drafting, verifying, end) in enumerate(rows):
            counts.tokens = end - int(self._first[row])
            counts.draft_forwards, counts.target_forwards = steps, counts.rounds
            counts.seconds = {**counts.seconds, "draft": drafting, "verify": verifying}
            tokens = self._trace.output[int(self._first[row]) : end].tolist()
            reason = "length" if end == int(self._end[row]) else None
            continuations.append(Continuation(tokens, [], "", reason, counts))
        return GenerationResult(continuations, total(controller.sequences), controller.state)

    def _ends(self) -> list[int]:
        return torch.minimum(self._at, self._end).tolist()


@dataclass(frozen=True)
class Replay:
    """What a policy did on a trace at one pair of costs, sequence by sequence."""

    costs: FixedCosts
    sequences: tuple[Statistics, ...]

    @property
    def stats(self) -> Statistics:
        """Of all sequences together."""
        return total(self.sequences)

    @property
    def speedup(self) -> float:
        """Tokens per target-step time."""
        return self.stats.tokens_per_second * self.costs.verify


@torch.inference_mode()
def replay(trace: Trace, policy: StoppingPolicy, costs: Sequence[FixedCosts]) -> list[Replay]:
    """`policy` on every sequence of `trace`, one sequence at a time, at each of `costs`.

    What a policy carries over goes on from sequence to sequence, in the order of the trace. Raises InputError if it
    reads signals that the trace does not hold.
    """
    if "hidden_state" in policy.required_signals:
        trace = trace.with_hidden_state
    if lacking := policy.required_signals - trace.columns.keys():
        raise InputError(f"policy {policy.kind!r}: reads {', '.join(sorted(lacking))}; no trace holds it.")
    lanes = Lanes(policy=policy)
    count = len(trace.sequences)
    carried = policy.init(1, torch.device("cpu")).couples_rows
    if carried:
        chunks = [torch.tensor([sequence]) for sequence in range(count)]
    else:
        chunks = list(torch.arange(count).split(max(1, WIDTH // len(costs))))
    found: list[list[Statistics]] = [[] for _ in costs]
    state: State | None = None
    for chunk in chunks:
        rows = chunk.repeat(len(costs))
        each = [cost for cost in costs for _ in chunk]
        decoding = ReplayDecoding(trace, rows, each, policy.required_signals)
        controller = decode(lanes, decoding, state)
        result = decoding.result(controller)
        for row, continuation in enumerate(result.continuations):
            found[row // len(chunk)].append(continuation.stats)
        state = lanes.outlived(result.state) if carried else None
    return [Replay(cost, tuple(rows)) for cost, rows in zip(costs, found, strict=True)]
