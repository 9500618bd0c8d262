"""`margin`: stop when the draft wavers between two tokens.

Rule: with q(1) and q(2) the two largest probabilities at a position, a difference below the threshold λ ends the block
before it.

Source: one of the rules that TapOut chooses among (Sridhar et al., arXiv 2511.02017). Its text was not at hand, so two
things are chosen here: the margin is one of probabilities, not of logits, and λ = 0.3 stays fixed unless `update` says
otherwise. At temperature 0 the probabilities are those of the untempered softmax.
"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from stopkit import Signals, ThresholdPolicy


class Margin(ThresholdPolicy):
    """Stops below a margin between the two best tokens."""

    kind: ClassVar[str] = "margin"
    signals: ClassVar[frozenset[str]] = frozenset({"margin"})
    formula: ClassVar[str] = "stop when q(1) − q(2) < λ; λ fixed, or by Algorithm 1"
    source: ClassVar[str] = "TapOut, arXiv 2511.02017"

    threshold: float = Field(default=0.3, ge=0, le=1, description="λ, a difference of probabilities")

    def score(self, signals: Signals) -> Tensor:
        """q(1) − q(2), [B]."""
        return signals.margin
