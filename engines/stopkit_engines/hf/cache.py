"""`RaggedCache`: a transformers cache in which every row has its own length, and rolling back is arithmetic.

Layers hold preallocated tensors and write wherever `point` says, row by row. What a row may see is decided by the
attention mask alone: entries past a row's length are stale, never seen, and overwritten when the row gets there.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin


class RaggedCache(Cache):  # type: ignore[misc]
    """Keys and values for `batch_size` rows of at most `capacity` tokens."""

    def __init__(self, layers: int, batch_size: int, capacity: int, device: torch.device) -> None:
        self.capacity = capacity
        self.rows = torch.arange(batch_size, device=device).unsqueeze(1)
        self.slots = self.rows
        self.used = 0
        super().__init__(layers=[RaggedLayer(self) for _ in range(layers)])

    @property
    def spare(self) -> int:
        """A slot that nothing ever sees; padding writes there."""
        return self.capacity

    def point(self, slots: Tensor, used: int) -> None:
        """Let the next forward write token w of row b to `slots[b, w]` and read the first `used` slots."""
        self.slots, self.used = slots, used


class RaggedLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer: keys and values as [B, capacity + 1, heads, head size]."""

    is_sliding = False

    def __init__(self, cache: RaggedCache) -> None:
        super().__init__()
        self.cache = cache

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        batch_size, slots = len(self.cache.rows), self.cache.capacity + 1
        self.keys, self.values = (
            states.new_zeros(batch_size, slots, states.shape[1], states.shape[3])
            for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Store states [B, heads, W, head size] at the cache's slots; return what may be attended to, same layout."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        return self._store(self.keys, key_states), self._store(self.values, value_states)

    def _store(self, stored: Tensor, states: Tensor) -> Tensor:
        stored[self.cache.rows, self.cache.slots] = states.transpose(1, 2)
        return stored[:, : self.cache.used].transpose(1, 2)

    def get_seq_length(self) -> int:
        return self.cache.used

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.cache.used, 0

    def get_max_length(self) -> int:
        return self.cache.capacity

    get_max_cache_shape = get_max_length  # its name before transformers 5.18
