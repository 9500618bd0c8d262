"""`fused` in plain torch: what the kernel of that name has to say, on any device and in any precision."""

from typing import NamedTuple

import torch
from torch import Tensor

from stopkit.random import SuppliedUniforms
from stopkit.sampling import Sampling, softmax
from stopkit.signals import entropy, margin, max_probability


class Fused(NamedTuple):
    """What is known of logits [B, V]; each field is [B], and has no meaning in a row where `log_sum` is not finite."""

    log_sum: Tensor
    """Log-sum-exp of logits / temperature; NaN or infinite exactly where no token can be drawn."""
    entropy: Tensor
    """Nats."""
    max_probability: Tensor
    margin: Tensor
    """Largest minus second largest probability."""
    top: Tensor
    """Long, the most probable token, the first of equals."""
    token: Tensor
    """Long, the token drawn."""
    probability: Tensor
    """That of the token."""
    q: Tensor | None
    """[B, V], if asked for: what the token was drawn from."""


def fused(logits: Tensor, temperature: Tensor, uniform: Tensor, with_q: bool = False) -> Fused:
    """Read logits [B, V] and draw a token a row by the inverse CDF, at a `uniform` [B, 1] float64 below 1.

    `temperature` has no dimension; it is 0 (greedy: the first of the most probable tokens, signals at 1) or 1e-6 and
    more. Computes in float32, or float64 if the logits are.
    """
    greedy = not bool(temperature > 0)
    shown = softmax(logits, 1.0 if greedy else float(temperature))
    wide = logits.to(shown.dtype)
    top = wide.argmax(-1)
    q = Sampling(temperature=0).probabilities(wide) if greedy else shown
    everyone = torch.ones(len(logits), dtype=torch.bool, device=logits.device)
    token = SuppliedUniforms(uniform).categorical(q, everyone).clamp(max=logits.shape[1] - 1)
    return Fused(
        (wide if greedy else wide / temperature.to(wide)).logsumexp(-1),
        entropy(shown),
        max_probability(shown),
        margin(shown),
        top,
        token,
        q.gather(1, token.unsqueeze(1)).squeeze(1),
        q if with_q else None,
    )
