"""`adaedl`: stop when the entropy of the draft distribution says that the target will probably disagree.

Rule: with H the entropy in nats of the distribution at a position, its acceptance probability is estimated as
1 − sqrt(γ·H); below the threshold λ the position is not drafted. After every round λ moves by Algorithm 1
(`stopkit.threshold.ThresholdController`).

Source: Agrawal, Jeon, Lee, *AdaEDL: Early Draft Stopping for Speculative Decoding of Large Language Models via an
Entropy-based Lower Bound on Token Acceptance Probability*, PMLR 262:355–369, 2024, arXiv 2410.18351.

What the paper leaves open, and what is chosen here:
* the initial λ, which matters because λ moves by about 0.001 a round: `threshold`, 0.7
* the initial acceptance rate: α, so that the first round decides by itself in which direction λ moves
* L, the maximum draft length, swept over 3, 7 and 16 in the paper: `max_draft`, 7
* which distribution: the one that is sampled; at temperature 0, never run in the paper, the untempered softmax
* a round with nothing drafted: `min_draft = 1` avoids it; with 0, such a round changes nothing
* whether λ and the acceptance rate are kept from prompt to prompt: `carry_over`, false
* whether the position that fails is wasted: `stop_token`, "exclude" as in the paper; "include" wastes no draft forward
"""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from stopkit import Signals, ThresholdPolicy


class AdaEDL(ThresholdPolicy):
    """Entropy-based early draft stopping with an adaptive threshold."""

    kind: ClassVar[str] = "adaedl"
    signals: ClassVar[frozenset[str]] = frozenset({"entropy"})
    formula: ClassVar[str] = "stop when 1 − sqrt(γ·H) < λ; λ by Algorithm 1"
    source: ClassVar[str] = "Agrawal, Jeon, Lee 2024, arXiv 2410.18351, PMLR 262:355–369"

    gamma: float = Field(default=0.2, gt=0, le=1, description="γ, scale of the entropy, per nat; (0, 1) in the paper")
    threshold: float = Field(default=0.7, ge=0, le=1, description="initial λ, a probability; swept over 0.3 … 0.9")
    update: Literal["fixed", "algorithm1"] = Field(
        default="algorithm1", description="move λ every round by Algorithm 1, or keep it"
    )

    def score(self, signals: Signals) -> Tensor:
        """1 − sqrt(γ·H), [B]: the estimated acceptance probability."""
        return 1 - (self.gamma * signals.entropy).sqrt()
