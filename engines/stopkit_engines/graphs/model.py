"""`GraphModel`: a `CachedModel` whose narrow forwards are one call of a compiled graph each."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from stopkit_engines.batch.runner import Scores
from stopkit_engines.graphs.artefacts import Graph
from stopkit_engines.graphs.capture import Shape, shape_of
from stopkit_engines.graphs.trees import leaves
from stopkit_engines.hf.cache import Stored
from stopkit_engines.hf.cached_model import CachedModel

WIDEST = 64
"""Tokens a row; more are a prompt, whose time is arithmetic rather than calls, and whose every logit nobody wants."""


class GraphModel(CachedModel):
    """Runs `graphs` of its model where one is for the forward at hand, and the same function eagerly elsewhere.

    `place` says where graphs want what this model has stored, if they mind.
    """

    def __init__(
        self,
        graphs: Mapping[Shape, Graph],
        model: Any,
        vocabulary: int,
        batch_size: int,
        capacity: int,
        device: torch.device,
        place: Callable[[Any, Stored], Stored] | None = None,
    ) -> None:
        super().__init__(model, vocabulary, batch_size, capacity, device)
        self._graphs, self._place = graphs, place
        self._leaves: list[Tensor] = []

    def pending(self, tokens: Tensor, end: Tensor, span: Tensor, used: int, keep: int, hidden: bool) -> Scores:
        rows, width = end.shape[0], span.shape[0]
        graph = self._graphs.get(shape_of(rows, width))
        if graph is None or width > WIDEST or not (stored := self.held(used)):
            return super().pending(tokens, end, span, used, keep, hidden)
        if rows > 1 and width == 1:  # a graph for rows has two tokens of each at least
            span = torch.arange(-2, 0, device=span.device)
        logits, states = graph(tokens, end, self.filled, span, *stored)
        return Scores(logits[:, -keep:], states[:, -keep:] if hidden else None)

    def held(self, tokens: int) -> list[Tensor]:
        """The keys and values of each layer, with room for so many tokens of a row; none before the first forward."""
        self.make_room(tokens)
        if not self.forwards:  # another may have filled a part of the cache
            return []
        if not self._leaves or self._leaves[0].shape[2] != self._cache.size:
            stored = self.stored
            if stored and self._place is not None:
                stored = self._place(self, stored)
                self.hold(stored)
            self._leaves = leaves(stored)
        return self._leaves

    def saw(self, end: Tensor) -> None:
        """Somebody else ran the model over what rows had pending before `end` [B], and kept it in what is `held`."""
        self.filled, self.forwards, self.width = end, self.forwards + 1, 1
