"""From logits to the distribution that is really sampled: temperature, then top-k, top-p, min-p, once.

The same function makes the target's p and the draft's q. Temperature 0 gives a one-hot distribution, so greedy decoding
takes the same path through drawing and verification as sampling does.
"""

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

OVERFLOWING = 1e-6
"""Below this temperature the quotient of a logit and it can exceed float32; differences to the largest cannot."""


class Sampling(BaseModel):
    """How tokens are sampled. The defaults sample from the model's own distribution."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    temperature: float = Field(default=1.0, ge=0, description="logits are divided by it; 0 is greedy decoding")
    top_k: int | None = Field(default=None, ge=1, description="keep the k most probable tokens")
    top_p: float | None = Field(
        default=None, gt=0, le=1, description="keep the smallest set with this much probability"
    )
    min_p: float | None = Field(
        default=None, ge=0, le=1, description="keep tokens with at least this share of the largest probability"
    )

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is always taken; too small a temperature to divide by means that, too."""
        return self.temperature < torch.finfo(torch.float32).tiny

    def probabilities(self, logits: Tensor) -> Tensor:
        """The sampled distribution; same shape [..., V], float32 or wider, sums to 1."""
        if self.greedy:
            return torch.zeros_like(logits, dtype=_wide(logits)).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)
        return self._truncate(softmax(logits, self.temperature))

    def shown(self, logits: Tensor, probabilities: Tensor) -> Tensor:
        """The distribution that signals describe: the sampled one, or the plain softmax when that is one-hot."""
        return softmax(logits) if self.greedy else probabilities

    def _truncate(self, p: Tensor) -> Tensor:
        if self.top_k is not None and self.top_k < p.shape[-1]:
            p = p.where(p >= p.topk(self.top_k).values[..., -1:], 0.0)
            p = p / p.sum(-1, keepdim=True)
        if self.top_p is not None and self.top_p < 1:
            ordered, order = p.sort(descending=True)
            before = ordered.cumsum(-1) - ordered
            least = torch.finfo(p.dtype).tiny  # of any top_p the most probable token is kept
            kept = torch.zeros_like(p, dtype=torch.bool).scatter(-1, order, before < max(self.top_p, least))
            p = p.where(kept, 0.0)
            p = p / p.sum(-1, keepdim=True)
        if self.min_p:
            p = p.where(p >= self.min_p * p.amax(-1, keepdim=True), 0.0)
            p = p / p.sum(-1, keepdim=True)
        return p


def softmax(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Softmax over the last dimension in float32 or wider."""
    logits = logits.to(_wide(logits))
    if temperature < OVERFLOWING:
        logits = logits - logits.amax(-1, keepdim=True)
    return torch.softmax(logits if temperature == 1 else logits / temperature, -1)


def _wide(logits: Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)
