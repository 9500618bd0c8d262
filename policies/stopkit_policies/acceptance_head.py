"""`acceptance_head`: stop once a trained head thinks that some token of the block has been rejected.

Rule: a small network on the draft's hidden state predicts whether the token that the draft read last is accepted.
After each token, 1 − Π P(accept) over the tokens that the head has judged estimates the probability that not all of
them will be; above τ no more is drafted. Between 2 and 20 tokens.

Source: Huang, Guo, Wang, *SpecDec++: Boosting Speculative Decoding via Adaptive Candidate Lengths*, arXiv 2405.19715,
and its code. As there, a token is judged by the state that has read it, which comes with the next draft forward: the
newest token has not been judged yet, and stays in the block. `stopkit train-head` trains a head from a trace.

Choices: τ = 0.3, as in the source's example; with rejections weighted by 6 the head promises less than is accepted.
A head belongs to one draft model. Without `weights` there is none, and the draft's largest probability stands for it,
which is `joint_confidence` with another τ.
"""

from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import Field, field_validator
from torch import Tensor

from stopkit import InputError, Signals
from stopkit_policies.head.network import HeadNetwork, load_head
from stopkit_policies.joint_confidence import JointConfidence


class AcceptanceHead(JointConfidence):
    """Stops on the block's probability of being accepted whole, as a trained head sees it."""

    kind: ClassVar[str] = "acceptance_head"
    formula: ClassVar[str] = "stop after the token when 1 − Π P(accept) > τ; P by a trained head"
    source: ClassVar[str] = "SpecDec++, arXiv 2405.19715"

    threshold: float = Field(default=0.3, ge=0, le=1, description="τ, the most probable that a rejection may be")
    weights: Path | None = Field(
        default=None, description="file that stopkit train-head wrote; max q stands for the head when unset"
    )

    @field_validator("weights")
    @classmethod
    def _sound(cls, weights: Path | None) -> Path | None:
        if weights is not None:
            load_head(weights)
        return weights

    @property
    def required_signals(self) -> frozenset[str]:
        return super().required_signals if self.weights is None else frozenset({"hidden_state"})

    @cached_property
    def _heads(self) -> dict[tuple[torch.device, torch.dtype], HeadNetwork]:
        """The head wherever it was used, in every precision."""
        return {}

    def confidence(self, position: Tensor, signals: Signals) -> Tensor:
        """P(accept) of the token before `position`, [B]; 1 at position 0, before which there is none."""
        if self.weights is None:
            return super().confidence(position, signals)
        state = signals.hidden_state
        place = state.device, torch.promote_types(state.dtype, torch.float32)
        if place not in self._heads:
            self._heads[place] = load_head(self.weights).to(*place)
        head = self._heads[place]
        if state.shape[-1] != head.width:
            raise InputError(
                f"policy.weights: {self.weights}: is for hidden states of {head.width} numbers, and this draft's have "
                f"{state.shape[-1]}; train a head for this draft with stopkit train-head."
            )
        accepts: Tensor = head(state).sigmoid()
        return accepts.where(position > 0, 1.0)
