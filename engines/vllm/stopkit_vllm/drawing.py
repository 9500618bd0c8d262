"""A draft step's token, what it was drawn from, and what a policy is shown of it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stopkit import Drawn, Signals
from stopkit.signals import compute

GREEDY = 1e-5
"""A temperature below this is 0 to vLLM."""


@dataclass(frozen=True)
class Drawing:
    """What a draft step gives."""

    token: Tensor
    """[B] long."""
    q: Tensor | None
    """[B, V], what vLLM is to verify with; None if each token stands for itself, as all of them are the best."""
    signals: Signals
    usable: Tensor
    """[B] bool, whether the draft's logits were finite."""
    probability: Tensor
    """[B], of the token in what it was drawn from: 1 where it was not drawn but taken."""

    @property
    def drawn(self) -> Drawn:
        """What `extend` is shown."""
        return Drawn(self.token.clone(), self.probability)


def draw(
    logits: Tensor,
    hidden_state: Tensor,
    names: Collection[str],
    temperature: Tensor | None,
    sample: Callable[[Tensor], tuple[Tensor, Any]] | None,
) -> Drawing:
    """The step whose `logits` [B, V] are given; `sample` is vLLM's own way from logits to token and q, in place.

    Without it the best tokens are taken. `names` are the signals to compute. Rows have temperatures [B] of their own,
    None if none is 0: where it is 0 the best token is taken, and signals describe the softmax, as they do without
    `sample`.
    """
    given = logits.clone() if "logits" in names else logits
    if sample is None:
        q, token = None, logits.argmax(-1)
        shown = torch.softmax(logits, -1, dtype=torch.float32)
        probability = torch.ones_like(shown[:, 0])
    else:
        token, q = sample(logits)
        shown = q
        probability = q.gather(1, token.unsqueeze(1)).squeeze(1)
        if temperature is not None:
            probability = probability.where(temperature >= GREEDY, 1.0)
    signals = compute(names, lambda: shown, given, hidden_state)
    return Drawing(token, q, signals, torch.isfinite(shown).all(-1), probability)
