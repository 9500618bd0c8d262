"""`joint_confidence`: stop once some token of the block has probably been rejected.

Rule: after each token, 1 − Π max q over the tokens of the block estimates the probability that not all of them will
be accepted; above τ no more is drafted. Between 2 and 20 tokens.

Source: Huang, Guo, Wang, *SpecDec++: Boosting Speculative Decoding via Adaptive Candidate Lengths*, arXiv 2405.19715.
There a trained head predicts each token's acceptance; here the draft's largest probability stands for it.

Choices: τ = 0.5, the middle of what is usual for the head (0.3 … 0.7), as max q promises less than is accepted. The
newest token counts in the product; in the source's code the head has not judged it yet.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from stopkit import Drawn, RoundContext, Signals, State, StoppingPolicy


class JointConfidence(StoppingPolicy):
    """Stops on the block's probability of being accepted whole."""

    kind: ClassVar[str] = "joint_confidence"
    signals: ClassVar[frozenset[str]] = frozenset({"max_probability"})
    formula: ClassVar[str] = "stop after the token when 1 − Π max q > τ"
    source: ClassVar[str] = "SpecDec++ without its head, arXiv 2405.19715"

    threshold: float = Field(default=0.5, ge=0, le=1, description="τ, the most probable that a rejection may be")
    min_draft: int = Field(default=2, ge=0, le=1024, description="tokens a round that are drafted whatever the product")
    max_draft: int = Field(default=20, ge=0, le=1024, description="most tokens a round")

    def init(self, batch_size: int, device: torch.device) -> State:
        return State(rows={"joint": torch.ones(batch_size, dtype=torch.float64, device=device)})

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return context.limit.clamp(max=self.max_draft), state.put(joint=torch.ones_like(state["joint"]))

    def extend(self, state: State, position: Tensor, signals: Signals, drawn: Drawn) -> tuple[Tensor, State]:
        joint = state["joint"] * self.confidence(position, signals)
        return (position + 1 < self.min_draft) | (1 - joint <= self.threshold), state.put(joint=joint)

    def confidence(self, position: Tensor, signals: Signals) -> Tensor:
        """The factor that a position adds to the product, [B]: how probable it is that one more token is accepted."""
        return signals.max_probability
