"""`GraphModel`: a `CachedModel` whose narrow forwards are one call of a compiled graph each."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from stopkit_engines.batch.runner import Scores
from stopkit_engines.graphs.artefacts import Graph
from stopkit_engines.graphs.capture import Shape
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

    def pending(self, tokens: Tensor, end: Tensor, span: Tensor, used: int, keep: int, hidden: bool) -> Scores:
        graph = next((graph for shape, graph in self._graphs.items() if shape.takes(len(end), len(span))), None)
        stored = self.stored
        if graph is None or not stored or len(span) > WIDEST:
            return super().pending(tokens, end, span, used, keep, hidden)
        if self._place is not None:
            stored = self._place(self, stored)
            self.hold(stored)
        if len(end) > 1 and len(span) == 1:  # a graph for rows has two tokens of each at least
            span = torch.arange(-2, 0, device=span.device)
        logits, states = graph(tokens, end, self.filled, span, stored)
        return Scores(logits[:, -keep:], states[:, -keep:] if hidden else None)
