"""Compute the signals that a policy asks for, once a step, from the logits that the token is drawn from."""

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from stopkit.policy import SIGNALS, Signals


def entropy(probabilities: Tensor) -> Tensor:
    """Entropy in nats over the last dimension."""
    total: Tensor = torch.special.entr(probabilities).sum(-1)
    return total


def max_probability(probabilities: Tensor) -> Tensor:
    """Largest probability over the last dimension."""
    return probabilities.amax(-1)


def margin(probabilities: Tensor) -> Tensor:
    """Largest minus second largest probability over the last dimension; the largest alone if there is one token."""
    if probabilities.shape[-1] == 1:
        return probabilities[..., 0]
    first, second = probabilities.topk(2).values.unbind(-1)
    return first - second


OF_PROBABILITIES: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "entropy": entropy,
        "max_probability": max_probability,
        "margin": margin,
        "probabilities": lambda probabilities: probabilities,
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
