"""`static`: draft the same number of tokens every round.

Source: Leviathan, Kalman, Matias, *Fast Inference from Transformers via Speculative Decoding*, arXiv 2211.17192. With
`length = 0` nothing is drafted and decoding is autoregressive; tables call that `autoregressive`.
"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from stopkit import RoundContext, State, StoppingPolicy


class Static(StoppingPolicy):
    """A constant draft length."""

    kind: ClassVar[str] = "static"
    formula: ClassVar[str] = "cap = length"
    source: ClassVar[str] = "Leviathan et al. 2023, arXiv 2211.17192"

    length: int = Field(
        default=5, ge=0, le=1024, description="tokens to draft each round; 0 is autoregressive decoding"
    )

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return context.limit.clamp(max=self.length), state
