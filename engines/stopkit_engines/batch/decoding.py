"""One batch on its way: blocks drafted, verified and rewound on a token buffer that the models share."""

import sys
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from itertools import compress
from typing import Any

import torch
from torch import Tensor

from stopkit.block import Block, WholeStep
from stopkit.controller import DraftController
from stopkit.costs import CostModel, RoundTime
from stopkit.coupling import COUPLINGS
from stopkit.decoding import Commitment, Decoding, Proposal, Verification
from stopkit.errors import GenerationError, one_line
from stopkit.generation import GenerationResult, InForce, Origin, Piece, Processor, Request
from stopkit.policy import Drawn, RoundContext, Verbs
from stopkit.random import SeededRandomSource, sequence_seeds
from stopkit.sampling import Sampling
from stopkit.signals import entropy
from stopkit.state import State
from stopkit.statistics import Statistics, Stopwatch, total
from stopkit_engines.batch.draft_source import DraftSource
from stopkit_engines.batch.room import enlarged, roomier
from stopkit_engines.batch.runner import Runner, finite
from stopkit_engines.batch.sequences import BatchSequence
from stopkit_engines.batch.steps import Batch, MakeSteps, Place, Steps


class BatchDecoding(Decoding):
    """Tokens [B, L] hold each row's prompt and output; past a row's length its columns are the block being drafted.

    `target` and `draft` have `request.rows` rows. A row whose sequence is done takes the next one that waits. `undone`
    is what the target's settings ask for and the engine leaves out. `steps` makes what is computed around forwards.
    """

    def __init__(
        self,
        request: Request,
        sequences: Sequence[BatchSequence],
        target: Runner,
        draft: DraftSource,
        ends: Collection[int],
        costs: CostModel,
        device: torch.device,
        undone: tuple[str, ...] = (),
        steps: MakeSteps = Steps,
    ) -> None:
        self.sequence_count = len(sequences)
        self._seated = list(range(request.rows))
        self.device, self.stopwatch, self.costs = device, Stopwatch(device), costs
        self._request, self._sequences, self._target, self._draft = request, sequences, target, draft
        self._processed = any(sequence.processors for sequence in sequences)
        self._undone = undone
        self._pieces: list[Piece] = []  # what the round gave, and nobody was told yet
        self._waiting = deque(range(request.rows, len(sequences)))
        seeds = request.seeds or sequence_seeds(request.options.seed, len(sequences))
        self._caught_up = False  # the draft has seen all but a token or two of every row
        self._random = request.random or SeededRandomSource(seeds, device, request.rows)
        coupling = COUPLINGS[request.options.coupling](self._random)
        self._steps = steps(request.options, coupling, request.signals)
        self._learned = (self.stopwatch.mark(),) * 2  # the moments between which the last round was learned from
        self._ends = frozenset(ends)
        self._end_tokens = torch.tensor(sorted(ends), dtype=torch.long, device=device)
        self._tokens = torch.zeros(request.rows, 0, dtype=torch.long, device=device)
        self._entropy = torch.full((request.rows,), torch.nan, device=device)
        for row in self._seated:
            self._seat(row)
        self._begin_round()

    def _begin_round(self) -> None:
        self._rows = [self._sequences[index] for index in self._seated]
        self._taking_part = [row.active for row in self._rows]
        known = [(row.active, row.length, self._limit(row), row.last_token) for row in self._rows]
        active, self._length, self._limits, self._last = torch.tensor([*zip(*known, strict=True)]).to(self.device)
        self._active = active.bool()
        self._places = [len(row.continuation.tokens) for row in self._rows]  # where in its output a row's block begins
        self._block: list[Tensor] = []  # q of each position, [B, V], without meaning for rows that had stopped
        self._nonfinite = torch.zeros_like(self._length)
        self._steady = True  # every draft step of this round was an ordinary one
        self._turns: list[Any] = []  # moments: the begin of each draft step, and that of the verification
        self._make_room(max(row.length for row in self._rows))

    @property
    def seated(self) -> Sequence[int]:
        return self._seated

    @property
    def finished(self) -> bool:
        return not any(self._taking_part)

    def context(self) -> RoundContext:
        self._began = self.stopwatch.mark()
        told = {"last_token": self._last, "length": self._length, "entropy": self._entropy}
        return RoundContext(self._active, self._limits, self.costs.costs(self.device), **told)

    def _limit(self, row: BatchSequence) -> int:
        """Most tokens worth drafting: one fewer than may be emitted, and within what the draft can go on with."""
        return max(0, min(row.left - 1, self._draft.context - row.length)) if row.active else 0

    def propose(self, live: Tensor, drafted: Tensor) -> Proposal:
        self._turns.append(self.stopwatch.mark())
        with self.stopwatch.phase("draft"):
            wanted = "hidden_state" in self._request.signals
            offer = self._draft.propose(self._tokens, self._length, drafted, live, wanted)
        self._steady &= self._draft.steady
        first = self._length + drafted
        process = partial(self._process, first) if self._processed else None
        proposed = self._steps.propose(offer.logits, offer.offered, offer.hidden_state, process)
        self._nonfinite += live & proposed.bad
        self._q = proposed.q
        return Proposal(proposed.signals, proposed.usable)

    def step(self, verbs: Verbs, state: State, block: Block) -> WholeStep | None:
        if self._processed or not (self._block or self._caught_up):
            return None
        began = self.stopwatch.mark()
        with self.stopwatch.phase("draft"):
            used = max(row.length for row in self._rows) + len(self._block)
            self._make_room(used)
            batch = Batch(self._draft, self._tokens, self._length, self._end_tokens, used)
            whole = self._steps.whole(verbs, state, block, batch)
        if whole is None:
            return None
        self._turns.append(began)
        self._nonfinite += whole.bad
        if whole.step.drew:
            self._block.append(whole.q)
        return whole.step

    def commit(self, live: Tensor, drafted: Tensor) -> Commitment:
        where, at = Place(self._places, live), self._length + drafted
        token, probability, more = self._steps.extend(
            self._q, len(self._block), where, self._tokens, at, self._end_tokens
        )
        self._block.append(self._q)
        self._make_room(max(row.length for row in self._rows) + len(self._block))
        return Commitment(Drawn(token, probability), more)

    def verify(self, drafted: Tensor) -> Verification:
        """End the round, in five steps.

        One target forward scores every block: p [B, K + 1, V] at its positions and after its last, and q is what its
        tokens were drawn from. The coupling tells how many tokens are kept and the target's own one that follows them.
        By default survival is the probability that a block is accepted up to each of its positions, one draw from it
        is the run length, the number of tokens accepted, and the own token is drawn from the residual of p and q where
        a token was rejected, else from p itself as a bonus. Target and draft are rewound to what was accepted, so that
        the own token is what they have pending. What every sequence has gained goes to the host in one transfer.
        """
        self._turns.append(self.stopwatch.mark())
        end = (self._length + drafted).where(self._active, self._target.filled)
        with self.stopwatch.phase("verify"):
            logits = self._target.forward(self._tokens, end, keep=len(self._block) + 1).logits
        accepted, agreed, bad, nothing, own, block = self._steps.verify(
            logits,
            torch.stack(self._block, 1) if self._block else logits[:, :0],
            Place(self._places, self._active),
            self._tokens,
            self._length,
            drafted,
            self._process_scored if self._processed else None,
        )
        self._rewind(agreed)
        if "entropy" in self._request.context:
            self._entropy = self._entropy_behind(logits, drafted, accepted)
        self._emit(torch.column_stack([bad, nothing, self._nonfinite, drafted, accepted, own, block]).tolist())
        seconds = self._settle()
        self._refill()
        self._begin_round()
        return Verification(accepted, seconds)

    def deliver(self) -> None:
        self._learned = (self._learned[1], self.stopwatch.mark())
        pieces, self._pieces = self._pieces, []
        if tell := self._request.on_piece:
            for piece in pieces:
                tell(piece)

    def result(self, controller: DraftController) -> GenerationResult:
        everyone = range(self.sequence_count)
        counts, batch = controller.statistics_of(everyone), self._so_far()
        continuations = [sequence.so_far(own, batch) for sequence, own in zip(self._sequences, counts, strict=True)]
        whole = total([batch, *(continuation.stats for continuation in continuations)])
        sampling = self._request.options.model_dump(include=set(Sampling.model_fields), exclude_none=True)
        names = dict.fromkeys(name for sequence in self._sequences for name in names_of(sequence.processors))
        in_force = InForce(sampling, tuple(names), self._undone)
        return GenerationResult(continuations, whole, controller.state_of(everyone), in_force)

    def _rewind(self, agreed: Tensor) -> None:
        self._target.rewind(agreed)
        self._draft.rewind(agreed)

    def _emit(self, outcome: list[list[int]]) -> None:
        """Give every active row what it gained."""
        heard = self._request.on_piece is not None
        gained = list(compress(zip(self._rows, outcome, strict=True), self._taking_part))
        for row, (nonfinite, forbidden, *_) in gained:
            if nonfinite:
                raise GenerationError(
                    f"the target's logits are NaN or infinite after token {row.length} of prompt {row.index}; what was "
                    "generated so far is kept. A wider dtype (engine.dtype) may help."
                )
            if forbidden:
                raise GenerationError(
                    f"after token {row.length} of prompt {row.index} the logits processors leave no token to sample: "
                    f"{self._at_fault(row)}; what was generated so far is kept."
                )
        self._caught_up = all(drafted for _, (_, _, _, drafted, *_) in gained)
        for row, (_, _, nonfinite, drafted, accepted, own, *block) in gained:
            row.nonfinite_drafts += nonfinite
            origin = Origin.RESIDUAL if accepted < drafted else Origin.BONUS
            self._pieces.append(row.emit(block[:accepted], own, origin, self._ends, heard))

    def _settle(self) -> RoundTime:
        """What the round took; prompts and catching up tell nothing of what ordinary forwards cost.

        With draft steps go all that is done for them, with the verification the rest of the round. What was learned
        from a round is known a round later.
        """
        now, turns, between = self.stopwatch.mark(), self._turns, self.stopwatch.between
        drafting = between(turns[0], turns[-1])
        verifying = between(self._began, now) - drafting + between(*self._learned)
        self._learned = (now, now)
        ordinary = self._target.width <= len(self._block) + 1
        return RoundTime(
            whole=sum(self.stopwatch.settle().values()),
            draft=drafting if self._steady else None,
            verify=verifying if ordinary else None,
            first=between(*turns[:2]) if self._steady and len(turns) > 1 else None,
        )

    def _so_far(self) -> Statistics:
        """Forwards and seconds of the whole batch."""
        return Statistics(
            draft_forwards=self._draft.forwards,
            target_forwards=self._target.forwards,
            seconds=self.stopwatch.so_far(),
        )

    def _refill(self) -> None:
        """Let sequences that wait take the rows of those that are done."""
        for row, sequence in enumerate(self._rows):
            if self._taking_part[row] and not sequence.active:
                sequence.done_at = self._so_far()
                if self._waiting:
                    self._seated[row] = self._waiting.popleft()
                    self._random.seat(row, self._seated[row])
                    self._seat(row)

    def _seat(self, row: int) -> None:
        """Let the sequence of `row` begin there: its prompt is written, and nothing of it has been seen."""
        sequence = self._sequences[self._seated[row]]
        sequence.seated_at = self._so_far()
        self._make_room(len(sequence.prompt))
        self._tokens[row, : len(sequence.prompt)] = torch.tensor(sequence.prompt)
        new = torch.arange(len(self._seated), device=self.device) == row
        self._entropy = self._entropy.masked_fill(new, torch.nan)
        self._rewind(torch.where(new, 0, sys.maxsize))
        self._caught_up = False

    def _make_room(self, tokens: int) -> None:
        """Have columns for so many tokens of a row, and for one that follows them."""
        self._tokens = enlarged(self._tokens, 1, roomier(tokens + 1, self._tokens.shape[1]))

    def _entropy_behind(self, logits: Tensor, drafted: Tensor, accepted: Tensor) -> Tensor:
        """The target's entropy [B] where its own tokens came from; a row's last `drafted + 1` columns are its own."""
        rows = torch.arange(len(drafted), device=self.device)
        scored = self._left[rows, accepted] if self._processed else logits[rows, accepted - drafted - 1]
        sampling = self._request.options
        return entropy(sampling.shown(scored, sampling.probabilities(scored)))

    def _process_scored(self, logits: Tensor) -> Tensor:
        self._scored, self._left = logits, self._process(self._length, logits)
        return self._left

    def _process(self, first: Tensor, logits: Tensor) -> Tensor:
        """Run the request's logits processors; column c of row b [B, C, V] follows that row's `first[b] + c` tokens.

        They are shown float32 or wider, as in transformers: in half precision a small penalty could be lost.
        """
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        processed = logits.clone()
        for row, start in enumerate(first.tolist()):
            for column in range(logits.shape[1]):
                for scores in self._processing(row, start + column, logits[row, column]):
                    processed[row, column] = scores[0]
        return processed

    def _processing(self, row: int, length: int, logits: Tensor) -> Iterator[Tensor]:
        """The scores [1, V] after each processor of `row`, from the `logits` [V] behind its first `length` tokens."""
        scores = logits.unsqueeze(0).clone()
        sequence = self._rows[row]
        for number, processor in enumerate(sequence.processors):
            try:
                scores = processor(self._tokens[row : row + 1, :length].clone(), scores)
                if scores.shape != (1, len(logits)):
                    raise ValueError(f"it returns scores {list(scores.shape)} for [1, {len(logits)}]")
            except Exception as error:  # somebody else's code
                name = names_of(sequence.processors)[number]
                raise GenerationError(
                    f"the logits processor `{name}`, number {number + 1} of {len(sequence.processors)}, fails after "
                    f"token {length} of prompt {sequence.index}: {one_line(error) or type(error).__name__}. "
                    "What was generated so far is kept."
                ) from error
            yield scores

    def _at_fault(self, sequence: BatchSequence) -> str:
        """Which processor left nothing, and what it left, in the block that was scored last."""
        row, names = self._rows.index(sequence), names_of(sequence.processors)
        for column, logits in enumerate(self._scored[row]):
            left = [bool(finite(scores)) for scores in self._processing(row, sequence.length + column, logits)]
            if not left[-1]:
                first = len(left) - left[::-1].index(True) if True in left else 0
                return f"after `{names[first]}`, number {first + 1} of {len(names)}, no logit is finite"
        return f"after them ({', '.join(names)}) no logit is finite, and when they were asked again they left some"


def names_of(processors: Sequence[Processor]) -> list[str]:
    """What logits processors are called."""
    return [getattr(processor, "__name__", type(processor).__name__) for processor in processors]
