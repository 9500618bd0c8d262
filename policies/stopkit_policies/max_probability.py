"""`max_probability`: stop when the draft is unsure of its own best token.

Rule: below the threshold λ, the largest probability of the draft distribution ends the block before its position.

Sources: Kangaroo (Liu et al., arXiv 2404.18911) keeps λ = 0.6 fixed, which is the default here; its code keeps the
token that fails in the block (`stop_token = "include"`) and drafts at most six. The Max-Confidence baseline of AdaEDL
(arXiv 2410.18351) leaves it out, as here, and moves λ by Algorithm 1, which is `update = "algorithm1"`. At
temperature 0 the probability is that of the untempered softmax.
"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from stopkit import Signals, ThresholdPolicy


class MaxProbability(ThresholdPolicy):
    """Stops below a confidence threshold."""

    kind: ClassVar[str] = "max_probability"
    signals: ClassVar[frozenset[str]] = frozenset({"max_probability"})
    formula: ClassVar[str] = "stop when max q < λ; λ fixed, or by Algorithm 1"
    source: ClassVar[str] = "Kangaroo, arXiv 2404.18911; AdaEDL's Max-Confidence baseline, arXiv 2410.18351"

    threshold: float = Field(default=0.6, ge=0, le=1, description="λ, a probability")

    def score(self, signals: Signals) -> Tensor:
        """max q, [B]."""
        return signals.max_probability
