"""Compute the signals that a policy asks for, once a step, from the logits that the token is drawn from."""

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

from stopkit.policy import SIGNALS, Signals

BLOCK = 256


def entropy(probabilities: Tensor) -> Tensor:
    """Entropy in nats over the last dimension."""
    smallest = torch.finfo(probabilities.dtype).tiny  # its logarithm is finite, so that 0·log 0 = 0
    return -probabilities.clamp_min(smallest).log_().mul_(probabilities).sum(-1)  # in place: twice as fast


def max_probability(probabilities: Tensor) -> Tensor:
    """Largest probability over the last dimension."""
    return probabilities.amax(-1)


def margin(probabilities: Tensor) -> Tensor:
    """Largest minus second largest probability over the last dimension; the largest alone if there is one token.

    Both are in the two blocks with the largest maxima: searching those is several times faster than all of V.
    """
    *outer, size = probabilities.shape
    blocks = functional.pad(probabilities, (0, -size % BLOCK)).view(*outer, -1, BLOCK)
    best = blocks.amax(-1).topk(min(2, blocks.shape[-2])).indices.unsqueeze(-1)
    two: Tensor = blocks.take_along_dim(best, -2).flatten(-2).topk(2).values
    return two[..., 0] - two[..., 1]


OF_PROBABILITIES: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "entropy": entropy,
        "max_probability": max_probability,
        "margin": margin,
        "probabilities": Tensor.clone,  # the engine draws and verifies with its own
    }
)
"""The signals that are functions of the distribution shown to policies."""


def compute(
    names: Collection[str],
    shown: Callable[[], Tensor],
    logits: Tensor,
    hidden_state: Tensor | None = None,
) -> Signals:
    """The `names`d signals of one position. `shown()` gives the distribution [B, V]; it is called only if needed."""
    if unknown := set(names) - SIGNALS:
        raise ValueError(f"unknown signals {sorted(unknown)}; there are {sorted(SIGNALS)}")
    values: dict[str, Tensor] = {}
    wanted = OF_PROBABILITIES.keys() & names
    if wanted:
        probabilities = shown()
        values = {name: OF_PROBABILITIES[name](probabilities) for name in wanted}
    if "logits" in names:
        values["logits"] = logits
    if "hidden_state" in names:
        if hidden_state is None:
            raise ValueError("the policy reads hidden_state, and this engine has none to give")
        values["hidden_state"] = hidden_state
    return Signals(**values)
