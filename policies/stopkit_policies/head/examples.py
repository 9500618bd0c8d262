"""What a head learns from: states that have read a draft token, and how probable it was that the token is accepted."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from stopkit.errors import InputError
from stopkit.trace.trace import Trace


@dataclass(frozen=True)
class Examples:
    """N draft tokens of a trace."""

    hidden_state: Tensor
    """[N, D], the draft's last hidden state once it has read the token."""
    acceptance: Tensor
    """[N], min(1, p(token) / q(token)): the probability with which the target accepts it."""
    weight: Tensor
    """[N], what each counts; 1 on average."""

    @classmethod
    def of(cls, trace: Trace, mixing_ratio: float) -> Self:
        """All tokens of a trace with hidden states whose rollout went on, so that the draft has read them.

        In SpecDec++ a share r of the tokens that the draft reads are the target's own and the others are draft tokens,
        and the loss is taken on draft tokens. Here the first token of a rollout follows the target's own tokens and
        every later one a draft token; they are weighted so that the first count r of the whole.
        """
        position = torch.arange(trace.metadata.max_draft - 1)
        read = position < (trace.drafted - 1).unsqueeze(1)
        if not bool(read.any()):
            raise InputError(f"{trace.path}: has no rollout of two tokens or more; record longer ones.")
        first = (position == 0).expand_as(read)[read]
        shares = torch.where(first, mixing_ratio, 1 - mixing_ratio)
        counts = torch.where(first, first.sum(), (~first).sum())
        weight = shares / counts
        return cls(
            hidden_state=trace.with_hidden_state.columns["hidden_state"][:, 1:][read].float(),
            acceptance=trace.columns["acceptance"][:, :-1][read].float(),
            weight=weight / weight.mean(),
        )

    def __len__(self) -> int:
        return len(self.acceptance)

    def at(self, rows: Tensor) -> Self:
        """The examples at these places."""
        return type(self)(self.hidden_state[rows], self.acceptance[rows], self.weight[rows])
