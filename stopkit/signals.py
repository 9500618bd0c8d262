"""`Signals`: what a policy is shown of a draft position, and how it is computed, once a step, from the logits."""

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

BLOCK = 256


class Signals:
    """What is known of one draft position before its token is drawn. Only the signals asked for are there.

    entropy, max_probability, margin and top_token describe the distribution that is sampled (after processors,
    temperature and truncation); at temperature 0, where that is one-hot, the softmax of the processed logits.
    """

    entropy: Tensor
    """[B], nats."""
    max_probability: Tensor
    """[B], largest probability."""
    margin: Tensor
    """[B], largest minus second largest probability."""
    top_token: Tensor
    """[B] long, the most probable token."""
    probabilities: Tensor
    """[B, V], the distribution that all above describe."""
    logits: Tensor
    """[B, V], as the draft model gave them."""
    hidden_state: Tensor
    """[B, D], the draft model's last hidden state."""

    def __init__(self, **values: Tensor) -> None:
        if unknown := values.keys() - SIGNALS:
            raise TypeError(f"unknown signals {sorted(unknown)}; there are {sorted(SIGNALS)}")
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Tensor:
        if name in SIGNALS:
            raise AttributeError(f"signal {name!r} was not computed; add it to the policy's `signals`")
        raise AttributeError(f"there is no signal {name!r}; there are {sorted(SIGNALS)}")


SIGNALS = frozenset(Signals.__annotations__)


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


def top_token(probabilities: Tensor) -> Tensor:
    """The most probable token, long, over the last dimension; the first of equals."""
    return probabilities.argmax(-1)


OF_PROBABILITIES: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "entropy": entropy,
        "max_probability": max_probability,
        "margin": margin,
        "top_token": top_token,
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
