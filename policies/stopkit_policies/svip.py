"""`svip`: stop after a token whose distribution was too uncertain.

Rule: with H the entropy in nats of the distribution that a token was drawn from, the square root of c·H estimates how
far the target may be from it; above the threshold h the token stays and no more is drafted. c = 0.15, h = 0.3, and at
most 40 tokens.

Source: Zhang et al., *Draft Model Knows When to Stop: Self-Verification Speculative Decoding for Long-Form
Generation*, arXiv 2411.18462, and its code. It is AdaEDL's estimate with another constant, a fixed threshold on the
other side, and the token that fails the test kept in the block.

What the source leaves open: which distribution. Here the one that is sampled; at temperature 0 the untempered
softmax.
"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from stopkit import Drawn, RoundContext, Signals, State, StoppingPolicy


class SVIP(StoppingPolicy):
    """Self-verification length policy: a fixed bound on the square root of the entropy."""

    kind: ClassVar[str] = "svip"
    signals: ClassVar[frozenset[str]] = frozenset({"entropy"})
    formula: ClassVar[str] = "stop after the token when sqrt(c·H) > h"
    source: ClassVar[str] = "Zhang et al. 2024, arXiv 2411.18462"

    scale: float = Field(default=0.15, ge=0, le=100, description="c, scale of the entropy, per nat")
    threshold: float = Field(default=0.3, ge=0, le=100, description="h, the most that sqrt(c·H) may be")
    max_draft: int = Field(default=40, ge=0, le=1024, description="most tokens a round")

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return context.limit.clamp(max=self.max_draft), state

    def extend(self, state: State, position: Tensor, signals: Signals, drawn: Drawn) -> tuple[Tensor, State]:
        return (self.scale * signals.entropy).sqrt() <= self.threshold, state
