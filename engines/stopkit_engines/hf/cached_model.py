"""A causal language model with a ragged cache: one padded forward consumes whatever each row has pending."""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from stopkit_engines.batch.runner import Scores
from stopkit_engines.hf.cache import RaggedCache, Stored
from stopkit_engines.hf.forward import Forward, context_length
from stopkit_engines.hf.windows import LayerMasks

KEPT_WHOLE = (DynamicLayer, DynamicSlidingWindowLayer)
"""The layers whose keys a ragged cache can keep: full attention, and what is full attention under a narrower mask."""


class CachedModel:
    """A `Runner`: `model` over a token buffer that it shares with others, any number of rows of any length.

    What a row sees is decided by masks that are prepared here, so it asks for a model that takes them, and positions.
    """

    def __init__(self, model: Any, vocabulary: int, batch_size: int, capacity: int, device: torch.device) -> None:
        self.model, self.vocabulary, self.capacity = model, vocabulary, capacity
        self.context = context_length(model)
        self.filled = torch.zeros(batch_size, dtype=torch.long, device=device)
        self.width = 0
        self.forwards = 0
        config = model.config.get_text_config()
        self._forward = Forward(model, vocabulary)
        self._masks = LayerMasks(config, capacity, model.dtype, device)
        self._cache = RaggedCache(config.num_hidden_layers, batch_size, device)

    @property
    def stored(self) -> Stored:
        """What the cache holds, in tensors that have room for what is to come; empty before the first forward."""
        return self._cache.stored

    def hold(self, stored: Stored) -> None:
        """Keep keys and values in these tensors, as another of the same model does."""
        self._cache.hold(stored)

    def forward(self, tokens: Tensor, end: Tensor, keep: int, hidden: bool = False) -> Scores:
        """See each row of `tokens` [B, L] up to `end` [B]; rows with nothing pending pass through as padding.

        Rows end in the last column, so their last `keep` positions are the last `keep` columns.
        """
        self.width, used = torch.stack([(end - self.filled).amax(), end.amax()]).tolist()
        self.make_room(used)
        span = torch.arange(-self.width, 0, device=end.device)
        scores = self.pending(tokens, end, span, used, keep, hidden)
        self.filled, self.forwards = end, self.forwards + 1
        return scores

    def pending(self, tokens: Tensor, end: Tensor, span: Tensor, used: int, keep: int, hidden: bool) -> Scores:
        """Scores of the places `span` [W], counted back from each row's `end`; the first `used` slots can be seen."""
        places = end.unsqueeze(1) + span
        positions = places.clamp(min=0)
        slots = places.where(places >= self.filled.unsqueeze(1), self._cache.spare)
        there = torch.arange(used, device=end.device)
        visible = there <= positions.unsqueeze(2)
        return self.see(tokens.gather(1, positions), slots, positions, visible, there, keep, hidden)

    def make_room(self, tokens: int) -> None:
        """Have slots for so many tokens of a row, or of a row and its branches."""
        self._cache.make_room(tokens)

    def see(
        self,
        tokens: Tensor,
        slots: Tensor,
        positions: Tensor,
        visible: Tensor,
        there: Tensor,
        keep: int,
        hidden: bool = False,
    ) -> Scores:
        """One forward over `tokens` [B, W] at `positions` [B, W], kept in `slots` [B, W].

        Each sees those that `visible` [B, W, S] says of the first S slots, its own included, and that its layer's
        window reaches; `there` [S] are the positions of what the slots hold.
        """
        self._cache.point(slots, visible.shape[-1])
        masks = self._masks(visible, positions, there)
        return self._forward(tokens, self._cache, keep, hidden, attention_mask=masks, position_ids=positions)

    def rewind(self, agreed: Tensor) -> None:
        """Forget what was seen past `agreed` [B]."""
        self.filled = torch.minimum(self.filled, agreed)


def keeps_whole(config: Any) -> bool:
    """Whether a ragged cache can hold every layer of a model of `config`."""
    layers = DynamicCache(config=config).layers
    return all(type(layer) in KEPT_WHOLE or type(layer).__name__ == "DummyLayer" for layer in layers)
