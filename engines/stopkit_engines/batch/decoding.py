"""One batch in the eager engine: blocks drafted, verified and rewound on a shared token buffer."""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from stopkit.controller import DraftController
from stopkit.costs import CostModel
from stopkit.decoding import Commitment, Decoding, Proposal, Verification
from stopkit.errors import GenerationError, InputError
from stopkit.generation import GenerationResult, Origin, Request
from stopkit.policy import Drawn, RoundContext
from stopkit.random import RandomSource
from stopkit.signals import compute
from stopkit.statistics import Statistics, Stopwatch, total
from stopkit.verification import next_distribution, survival
from stopkit_engines.batch.rows import Row
from stopkit_engines.hf.cached_model import CachedModel, finite


class EagerDecoding(Decoding):
    """Tokens [B, L] hold each row's prompt and output; past a row's length its columns are the block being drafted.

    A model is run over whatever it has not seen of a row: prefill, ordinary rounds and catching up are one path.
    """

    def __init__(
        self,
        target: CachedModel,
        draft: CachedModel | None,
        tokens: Tensor,
        rows: Sequence[Row],
        request: Request,
        random: RandomSource,
        ends: Collection[int],
        costs: CostModel,
    ) -> None:
        self.device = tokens.device
        self.batch_size = len(rows)
        self.stopwatch = Stopwatch(self.device)
        self._target, self._draft, self._tokens, self._rows = target, draft, tokens, rows
        self._request, self._random, self._costs = request, random, costs
        self._ends = frozenset(ends)
        self._end_tokens = torch.tensor(sorted(ends), dtype=torch.long, device=self.device)
        self._unusable = torch.zeros(self.batch_size, dtype=torch.long, device=self.device)
        self._begin_round()

    def _begin_round(self) -> None:
        self._active = torch.tensor([row.active for row in self._rows]).to(self.device)
        self._length = torch.tensor([row.length for row in self._rows]).to(self.device)
        self._drafted = torch.zeros_like(self._length)
        self._block: list[Tensor] = []  # q of each position, [B, V], without meaning for rows that had stopped
        self._steps = 0  # draft forwards; one more than positions in the longest block if the last was not admitted
        self._steady = True  # no draft forward of this round had more pending than a round leaves behind

    @property
    def finished(self) -> bool:
        return not any(row.active for row in self._rows)

    def context(self) -> RoundContext:
        limits = torch.tensor([self._limit(row) for row in self._rows]).to(self.device)
        last = self._tokens.gather(1, self._length.unsqueeze(1) - 1).squeeze(1)
        return RoundContext(self._active, limits, self._costs.costs(self.device), last_token=last)

    def _limit(self, row: Row) -> int:
        """Most tokens worth drafting: one fewer than may be emitted, and within the draft's context."""
        reach = self._draft.context - row.length if self._draft else row.left
        return max(0, min(row.left - 1, reach)) if row.active else 0

    def propose(self, live: Tensor) -> Proposal:
        if self._draft is None:
            raise InputError("the policy asks for draft tokens and the engine has no draft model; set engine.draft.")
        wanted, options = self._request.signals, self._request.options
        end = (self._length + self._drafted).where(live, self._draft.filled)
        with self.stopwatch.phase("draft"):
            scores = self._draft.forward(self._tokens, end, keep=1, hidden="hidden_state" in wanted)
        self._steps += 1
        self._steady &= self._draft.width <= 2
        usable = finite(scores.logits)
        raw = scores.logits.where(usable.unsqueeze(2), 0.0)
        logits, usable = self._process(raw, end)[:, 0], usable[:, 0]
        self._unusable += live > usable
        self._q = options.probabilities(logits)
        signals = compute(wanted, lambda: options.shown(logits, self._q), raw[:, 0], scores.last.hidden_state)
        return Proposal(signals, usable)

    def commit(self, live: Tensor) -> Commitment:
        token = self._random.categorical(self._q, live)
        drawn = Drawn(token, self._q.gather(1, token.unsqueeze(1)).squeeze(1))
        self._tokens.scatter_(1, (self._length + self._drafted).unsqueeze(1), token.unsqueeze(1))
        self._block.append(self._q)
        self._drafted = self._drafted + live
        return Commitment(drawn, (token.unsqueeze(1) != self._end_tokens).all(1))

    def verify(self) -> Verification:
        columns = torch.arange(len(self._block) + 1, device=self.device)
        end = (self._length + self._drafted).where(self._active, self._target.filled)
        with self.stopwatch.phase("verify"):
            logits = self._target.forward(self._tokens, end, keep=len(columns)).logits
        drafted = self._drafted.unsqueeze(1)
        logits = _from_block_start(logits, columns, drafted)
        sound = (finite(logits) | (columns > drafted)).all(1)

        p = self._request.options.probabilities(self._process(logits, self._length))
        q = torch.stack([*self._block, p[:, -1]], 1).where((columns < drafted).unsqueeze(2), 0.0)
        places = (self._length.unsqueeze(1) + columns[:-1]).clamp(max=self._tokens.shape[1] - 1)
        block = self._tokens.gather(1, places)
        accepted = self._random.run_length(survival(p, q, block), self._drafted > 0)
        own = self._random.categorical(next_distribution(p, q, accepted), self._active)
        agreed = self._length + accepted
        self._tokens.scatter_(1, agreed.unsqueeze(1), own.unsqueeze(1))
        for model in filter(None, (self._target, self._draft)):
            model.rewind(agreed)
        self._emit(torch.column_stack([sound, self._drafted, accepted, own, block]).tolist())
        seconds = self._count_costs(len(self._block))
        self._begin_round()
        return Verification(accepted, seconds)

    def result(self, controller: DraftController) -> GenerationResult:
        self.stopwatch.settle()
        for row, counts, unusable in zip(self._rows, controller.sequences, self._unusable.tolist(), strict=True):
            row.continuation.stats = counts
            counts.tokens, counts.nonfinite_drafts = len(row.continuation.tokens), unusable
        batch = Statistics(
            draft_forwards=self._draft.forwards if self._draft else 0,
            target_forwards=self._target.forwards,
            seconds=dict(self.stopwatch.seconds),
        )
        continuations = [row.continuation for row in self._rows]
        return GenerationResult(continuations, total([batch, *controller.sequences]), controller.state)

    def _emit(self, outcome: list[list[int]]) -> None:
        """Give every active row what it gained; the round's one transfer to the host has been made."""
        for index, (row, (sound, *_)) in enumerate(zip(self._rows, outcome, strict=True)):
            if row.active and not sound:
                raise GenerationError(
                    f"the target's logits are NaN or infinite after token {row.length} of prompt {index}; what was "
                    "generated so far is kept. A wider dtype (engine.dtype) may help."
                )
        for index, (row, (_, drafted, accepted, own, *block)) in enumerate(zip(self._rows, outcome, strict=True)):
            if row.active:
                origin = Origin.RESIDUAL if accepted < drafted else Origin.BONUS
                piece = row.emit(index, block[:accepted], own, origin, self._ends)
                if self._request.on_piece:
                    self._request.on_piece(piece)

    def _count_costs(self, drafted: int) -> float:
        """Record what the round's forwards took, unless prompts or catching up were in them; the round's seconds."""
        spent = self.stopwatch.settle()
        if self._steady:
            self._costs.saw_draft_steps(spent["draft"], self._steps)
        if self._target.width <= drafted + 1:
            self._costs.saw_verification(spent["verify"], drafted)
        return self._costs.round_seconds(self._steps, drafted, sum(spent.values()))

    def _process(self, logits: Tensor, first: Tensor) -> Tensor:
        """Run the request's logits processors; column c of row b [B, C, V] follows that row's `first[b] + c` tokens."""
        if not self._request.logits_processor:
            return logits
        processed = logits.clone()
        for row, start in enumerate(first.tolist()):
            for column in range(logits.shape[1]):
                scores = logits[row : row + 1, column]
                for processor in self._request.logits_processor:
                    scores = processor(self._tokens[row : row + 1, : start + column], scores)
                processed[row, column] = scores[0]
        return processed


def _from_block_start(logits: Tensor, columns: Tensor, drafted: Tensor) -> Tensor:
    """Move each row's `drafted + 1` last columns of [B, C, V] to its front; later columns repeat the last one."""
    last = len(columns) - 1
    rows = torch.arange(len(logits), device=logits.device).unsqueeze(1)
    return logits[rows, (columns + (last - drafted)).clamp(max=last)]
