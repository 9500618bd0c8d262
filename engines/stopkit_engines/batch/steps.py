"""What a batch makes of scores, as functions of tensors alone: they can run as they are, or be compiled.

Shapes: B rows, V tokens, blocks of at most K, a token buffer [B, L]; `length` [B] is how much of each row was there
before its block.
"""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from stopkit.block import Block, WholeStep
from stopkit.coupling import Coupling
from stopkit.policy import Verbs
from stopkit.sampling import Sampling
from stopkit.signals import Signals, compute
from stopkit.state import State
from stopkit_engines.batch.draft_source import DraftSource
from stopkit_engines.batch.runner import finite

Distribution = Callable[[Tensor], Tensor]
"""Of logits [..., V], in float32 or wider."""
Process = Callable[[Tensor], Tensor]
"""What logits processors make of logits [B, C, V]."""


class Place(NamedTuple):
    """Where in the rows' outputs a round is, and which rows are in it."""

    places: Sequence[int]
    """Where in each row's output its block begins."""
    rows: Tensor
    """[B] bool."""


class Proposed(NamedTuple):
    """One draft step, before anything is drawn."""

    q: Tensor
    """[B, V], what a token is drawn from; without meaning where nothing is usable."""
    usable: Tensor
    """[B] bool, where there is something to draw from."""
    bad: Tensor
    """[B] bool, where the draft's logits are NaN or infinite."""
    signals: Signals


class Extended(NamedTuple):
    """The tokens that go on with the blocks."""

    token: Tensor
    """[B] long."""
    probability: Tensor
    """[B], that of the token in q."""
    more: Tensor
    """[B] bool, false after a token that ends a sequence."""


class Batch(NamedTuple):
    """What a whole draft step reads of a batch."""

    source: DraftSource
    tokens: Tensor
    """[B, L], written to behind each row's block."""
    length: Tensor
    """[B] long, how much of each row was there before its block."""
    ends: Tensor
    """[E] long, the tokens that end a sequence."""
    used: int
    """The most tokens of a row, its block included."""


class Whole(NamedTuple):
    """A whole draft step, and what the engine needs of it."""

    step: WholeStep
    q: Tensor
    """[B, V], what the tokens were drawn from."""
    bad: Tensor
    """[B] bool, the live rows where the draft's logits are NaN or infinite."""


class Verified(NamedTuple):
    """What one target forward says of the blocks."""

    accepted: Tensor
    """[B] long."""
    agreed: Tensor
    """[B] long, up to where target and draft have seen what is kept."""
    bad: Tensor
    """[B] bool, where the target's logits are NaN or infinite, and needed."""
    nothing: Tensor
    """[B] bool, where processors leave nothing to sample, and it is needed."""
    own: Tensor
    """[B] long, the target's own token, which follows what is accepted."""
    block: Tensor
    """[B, K] long, without meaning past what was drafted."""


class Steps:
    """The functions for one way to sample, one way to draw, and what is to be shown to a policy."""

    def __init__(
        self,
        sampling: Sampling,
        coupling: Coupling,
        signals: Collection[str],
        probabilities: Distribution | None = None,
    ) -> None:
        self._sampling, self._coupling, self._signals = sampling, coupling, signals
        self._probabilities = probabilities or sampling.probabilities

    def propose(self, raw: Tensor, offered: Tensor, hidden: Tensor | None, process: Process | None = None) -> Proposed:
        """From the draft's `raw` logits [B, V], for the rows in `offered` (bool [B])."""
        sound = finite(raw)
        usable, logits = offered & sound, raw
        if process is not None:
            logits = process(raw.unsqueeze(1))[:, 0]
            usable = usable & finite(logits)  # they may forbid all that was offered
        logits = logits.where(usable.unsqueeze(1), 0.0)
        q = self._probabilities(logits)
        shown = raw.where(sound.unsqueeze(1), 0.0)
        signals = compute(self._signals, lambda: self._sampling.shown(logits, q), shown, hidden)
        return Proposed(q, usable, offered & ~sound, signals)

    def whole(self, verbs: Verbs, state: State, block: Block, batch: Batch) -> "Whole | None":
        """All of a draft step, where it is one function; None asks for its parts."""
        return None

    def extend(self, q: Tensor, column: int, where: Place, tokens: Tensor, at: Tensor, ends: Tensor) -> Extended:
        """Draw that `column` of the block from `q` [B, V], and write it to `tokens` where `at` [B] says.

        `ends` [E] are the tokens that end a sequence.
        """
        token = self._coupling.draft(q, column, *where)
        drawn = token.unsqueeze(1)
        tokens.scatter_(1, at.unsqueeze(1), drawn)
        return Extended(token, q.gather(1, drawn).squeeze(1), (drawn != ends).all(1))

    def verify(
        self,
        logits: Tensor,
        block: Tensor,
        where: Place,
        tokens: Tensor,
        length: Tensor,
        drafted: Tensor,
        process: Process | None = None,
    ) -> Verified:
        """Judge blocks by the target's last `logits` [B, K + 1, V], and write its own tokens to `tokens`.

        `block` [B, K, V] is what its tokens were drawn from; q is zero past a row's `drafted` [B] tokens, where the
        residual is p itself.
        """
        columns, ahead = torch.arange(logits.shape[1], device=logits.device), drafted.unsqueeze(1)
        raw = self._aligned(logits, columns, ahead)
        left = raw if process is None else process(raw)
        p = self._probabilities(left)
        q = torch.cat([block, p[:, -1:]], 1).where((columns < ahead).unsqueeze(2), 0.0)
        places = (length.unsqueeze(1) + columns[:-1]).clamp(max=tokens.shape[1] - 1)
        drawn = tokens.gather(1, places)  # without meaning past the end of a row's block
        accepted, own = self._coupling.verify(p, q, drawn, drafted, *where)
        # A target gone bad is never to be trusted; processors may well have nothing to say after a rejected token.
        bad = (~finite(raw) & (columns <= ahead)).any(1)
        nothing = (~finite(left) & (columns <= accepted.unsqueeze(1))).any(1)
        agreed = length + accepted
        tokens.scatter_(1, agreed.unsqueeze(1), own.unsqueeze(1))
        return Verified(accepted, agreed, bad, nothing, own, drawn)

    def _aligned(self, logits: Tensor, columns: Tensor, ahead: Tensor) -> Tensor:
        """Move each row's `ahead + 1` last columns of [B, C, V] to its front; later columns repeat the last one."""
        last = logits.shape[1] - 1
        rows = torch.arange(logits.shape[0], device=logits.device).unsqueeze(1)
        return logits[rows, (columns + (last - ahead)).clamp(max=last)]


MakeSteps = Callable[[Sampling, Coupling, Collection[str]], Steps]
"""Makes what a generation's steps are, from how it samples and draws, and what is shown to its policy."""
