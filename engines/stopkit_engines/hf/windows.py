"""Attention that sees only a part of what came before: sliding windows and chunks, as masks.

A cache that keeps every key needs nothing else, and rolls back like one of full attention.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

FULL = "full_attention"
SIZES = {"sliding_attention": "sliding_window", "chunked_attention": "attention_chunk_size"}
"""For each kind of layer that sees only a part, the config's name for how much that is."""

SEES: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "sliding_attention": lambda here, there, size: there > here - size,
    "chunked_attention": lambda here, there, size: there // size == here // size,
}
"""For each of them, whether position `here` sees position `there`, no later than it."""


class LayerMasks:
    """The additive masks that a model of `config` wants, made from what its rows see.

    With layers of one kind that is one mask, else one by the name of each kind. Windows and chunks of `context` tokens
    or more hide nothing.
    """

    def __init__(self, config: Any, context: int, dtype: torch.dtype, device: torch.device) -> None:
        self.sizes = {kind: size for kind, size in window_sizes(config).items() if size < context}
        """How much each kind of layer sees, for those that do not see everything."""
        self._kinds = [kind for kind in dict.fromkeys(layer_kinds(config)) if kind in (FULL, *SIZES)]
        self._lowest = torch.finfo(dtype).min
        self._none = torch.zeros((), dtype=dtype, device=device)

    def __call__(self, visible: Tensor, here: Tensor, there: Tensor) -> Tensor | dict[str, Tensor]:
        """Masks [B, 1, W, S] of what is `visible` [B, W, S] from the positions `here` [B, W] at `there` [S]."""
        masks = {kind: self._mask(self._part(kind, visible, here, there)) for kind in self._kinds}
        return masks if len(masks) > 1 else masks.popitem()[1]

    def _part(self, kind: str, visible: Tensor, here: Tensor, there: Tensor) -> Tensor:
        size = self.sizes.get(kind)
        return visible if size is None else visible & SEES[kind](here.unsqueeze(-1), there, size)

    def _mask(self, visible: Tensor) -> Tensor:
        return self._none.where(visible, self._lowest).unsqueeze(1)


def layer_kinds(config: Any) -> list[str]:
    """What kind each layer is of, by transformers' names."""
    if named := getattr(config, "layer_types", None):
        return list(named)
    inferred = next((kind for kind, name in SIZES.items() if getattr(config, name, None)), FULL)
    return [inferred] * int(config.num_hidden_layers)


def window_sizes(config: Any) -> dict[str, int]:
    """How much each kind of layer of `config` sees that does not see everything."""
    named = {kind: getattr(config, SIZES[kind], None) for kind in dict.fromkeys(layer_kinds(config)) if kind in SIZES}
    return {kind: size for kind, size in named.items() if size is not None}


@contextmanager
def narrowed(config: Any, size: int) -> Iterator[None]:
    """Let windows and chunks of `config` be of `size` tokens, so that they act on a short sequence."""
    names = {SIZES[kind] for kind in window_sizes(config)}
    before = {name: getattr(config, name) for name in names}
    try:
        for name in names:
            setattr(config, name, size)
        yield
    finally:
        for name, value in before.items():
            setattr(config, name, value)
