"""`Runner`: what a batch needs of a model, whatever runs it."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional


class Scores(NamedTuple):
    """What one forward gave for the last positions of every row."""

    logits: Tensor
    """[B, keep, V]; a row's last position is its last column."""
    hidden_state: Tensor | None
    """[B, keep, D], if asked for."""

    @property
    def last(self) -> "Scores":
        """The scores of each row's last position: [B, V] and [B, D]."""
        return Scores(self.logits[:, -1], None if self.hidden_state is None else self.hidden_state[:, -1])


class Runner(Protocol):
    """A model with its cache, over the token buffer of a batch: one forward sees whatever each row has pending.

    Prefill, ordinary rounds and catching up are one path. Rolling a row back is forgetting what was seen past a place.
    """

    context: int
    """The most tokens a sequence can have."""
    filled: Tensor
    """[B] long, how much of each row has been seen."""
    width: int
    """The most tokens that a row had pending in the last forward."""

    @property
    def forwards(self) -> int:
        """Forward calls so far, each for the whole batch."""

    def forward(self, tokens: Tensor, end: Tensor, keep: int, hidden: bool = False) -> Scores:
        """See each row of `tokens` [B, L] up to `end` [B], and score its last `keep` positions.

        A row whose `end` is what it has seen already passes through, and its scores have no meaning. `hidden` asks for
        the last hidden states, too.
        """

    def rewind(self, agreed: Tensor) -> None:
        """Forget what was seen of each row past `agreed` [B]."""


def joined(scores: Sequence[Scores]) -> Scores:
    """The scores of forwards over one position after another, side by side."""
    hidden = [each.hidden_state for each in scores if each.hidden_state is not None]
    return Scores(torch.cat([each.logits for each in scores], 1), torch.cat(hidden, 1) if hidden else None)


def fitted(logits: Tensor, vocabulary: int) -> Tensor:
    """Logits [..., V] cut, or padded with -inf, to `vocabulary` entries: models of one tokenizer pad it differently."""
    missing = vocabulary - logits.shape[-1]
    return functional.pad(logits, (0, missing), value=-torch.inf) if missing else logits


def finite(logits: Tensor) -> Tensor:
    """Whether the largest logit [..., V] is a number; -inf elsewhere only forbids a token."""
    return logits.amax(-1).abs() < float("inf")
