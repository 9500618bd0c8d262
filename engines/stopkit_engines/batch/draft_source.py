"""`DraftSource`: what proposes draft tokens. It may be a model, and it may be none at all."""

import sys
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from stopkit.errors import InputError
from stopkit_engines.batch.runner import Runner


class Offer(NamedTuple):
    """What a source proposes for the next token of every row."""

    logits: Tensor
    """[B, V]; without meaning in rows that were not asked."""
    offered: Tensor
    """[B] bool, false where the source has nothing to propose: the block ends there, and that is no defect."""
    hidden_state: Tensor | None = None
    """[B, D], if asked for."""


class DraftSource(Protocol):
    """Proposes the tokens of a block, one after another, for the rows of a batch."""

    @property
    def context(self) -> int:
        """The most tokens of a sequence that this source can go on with."""

    @property
    def forwards(self) -> int:
        """Forward calls of a model so far, each for the whole batch; a source without a model makes none."""

    @property
    def steady(self) -> bool:
        """Whether the last step was an ordinary one, whose time tells what steps cost: it did not read a prompt."""

    def propose(self, tokens: Tensor, length: Tensor, drafted: Tensor, live: Tensor, hidden: bool) -> Offer:
        """What may follow in the rows of `tokens` [B, L] that are in `live` (bool [B]).

        A row's first `length` [B] tokens are its own, and the next `drafted` [B] are its block so far. `hidden` asks
        for the hidden states; a source that has none raises InputError.
        """

    def rewind(self, agreed: Tensor) -> None:
        """Forget what was seen of each row past `agreed` [B]."""


class ModelDraft:
    """A model drafts. It has something to propose wherever it is asked."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        """What runs the model."""

    @property
    def context(self) -> int:
        return self.runner.context

    @property
    def forwards(self) -> int:
        return self.runner.forwards

    @property
    def steady(self) -> bool:
        # A round leaves two tokens behind at most; more are a prompt, or those of rounds that drafted nothing.
        return self.runner.width <= 2

    def propose(self, tokens: Tensor, length: Tensor, drafted: Tensor, live: Tensor, hidden: bool) -> Offer:
        end = (length + drafted).where(live, self.runner.filled)
        scores = self.runner.forward(tokens, end, keep=1, hidden=hidden).last
        return Offer(scores.logits, torch.ones_like(live), scores.hidden_state)

    def rewind(self, agreed: Tensor) -> None:
        self.runner.rewind(agreed)


class NoDraft:
    """Nothing drafts, and whoever asks for draft tokens is told so."""

    context = sys.maxsize
    forwards = 0
    steady = True

    def propose(self, tokens: Tensor, length: Tensor, drafted: Tensor, live: Tensor, hidden: bool) -> Offer:
        raise InputError("the policy asks for draft tokens and the engine has no draft model; set engine.draft.")

    def rewind(self, agreed: Tensor) -> None:
        pass
