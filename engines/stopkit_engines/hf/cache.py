"""`RaggedCache`: a transformers cache in which every row has its own length, and rolling back is arithmetic.

Layers write wherever `point` says, row by row. What a row may see is decided by the attention mask alone: entries past
a row's length are stale, never seen, and overwritten when the row gets there. Memory grows with what is held.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

from stopkit_engines.batch.room import enlarged, roomier

Stored = list[tuple[Tensor, Tensor]]
"""Keys and values of each layer, [B, heads, slots, head size]."""


class RaggedCache(Cache):  # type: ignore[misc]
    """Keys and values for `batch_size` rows; `make_room` says of how many tokens."""

    def __init__(self, layers: int, batch_size: int, device: torch.device) -> None:
        self.rows = torch.arange(batch_size, device=device).view(-1, 1, 1)
        self.slots = self.rows
        self.used = 0
        self.size = 0
        super().__init__(layers=[RaggedLayer(self) for _ in range(layers)])

    @property
    def spare(self) -> int:
        """A slot that nothing ever sees; padding writes there."""
        return self.size - 1

    def make_room(self, tokens: int) -> None:
        """Have slots for so many tokens of a row, and one to spare."""
        self.size = roomier(tokens + 1, self.size)

    @property
    def stored(self) -> Stored:
        """The keys and values of the layers that hold some, with room for what is to come."""
        return [layer.stored() for layer in self.layers if layer.is_initialized]

    def hold(self, stored: Stored) -> None:
        """Write to these tensors from now on, which a cache of the same model has made."""
        self.size = stored[0][0].shape[2]
        for layer, (keys, values) in zip(self.layers, stored, strict=False):
            layer.keys, layer.values, layer.is_initialized = keys, values, True

    def point(self, slots: Tensor, used: int) -> None:
        """Let the next forward write token w of row b to `slots[b, w]` and read the first `used` slots."""
        self.slots, self.used = slots, used


class RaggedLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer: keys and values as [B, heads, slots, head size]."""

    is_sliding = False

    def __init__(self, cache: RaggedCache) -> None:
        super().__init__()
        self.cache = cache

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.keys, self.values = (
            states.new_zeros(states.shape[0], states.shape[1], self.cache.size, states.shape[3])
            for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Store states [B, heads, W, head size] at the cache's slots; return what may be attended to, same layout."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        keys, values = self.stored()
        return self._store(keys, key_states), self._store(values, value_states)

    def stored(self) -> tuple[Tensor, Tensor]:
        """Keys and values, enlarged to what the cache has room for."""
        self.keys, self.values = (enlarged(stored, 2, self.cache.size) for stored in (self.keys, self.values))
        return self.keys, self.values

    def _store(self, stored: Tensor, states: Tensor) -> Tensor:
        slots = self.cache.slots
        if slots.shape[0] == 1:  # twice as fast as the general case
            stored.index_copy_(2, slots[0], states)
        else:
            heads = torch.arange(stored.shape[1], device=stored.device).unsqueeze(1)
            stored[self.cache.rows, heads, slots.unsqueeze(1)] = states
        return stored[:, :, : self.cache.used]

    def get_seq_length(self) -> int:
        return self.cache.used

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.cache.used, 0

    def get_max_length(self) -> int:
        return self.cache.size

    get_max_cache_shape = get_max_length  # its name before transformers 5.18
