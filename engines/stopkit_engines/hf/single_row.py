"""A causal language model with the cache that is its own, for one row: what cannot be cut is kept as it was before."""

import copy
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from stopkit_engines.batch.runner import Scores, joined
from stopkit_engines.hf.forward import Forward, context_length


class SingleRow:
    """A `Runner` of one row, for models that make their own masks or have a state which no mask can roll back.

    Keys and values are cut at what was agreed on. Of other layers, with recurrent states or windows, a copy is made
    before tokens are seen that may be rejected; to roll back is to go on from that copy and to see again what was
    accepted. So that this stays short, tokens that are settled are seen in a forward of their own.
    """

    steps = False
    """Whether the model, once it has a state, reads no more than one token in a forward."""

    def __init__(self, model: Any, vocabulary: int, batch_size: int, capacity: int, device: torch.device) -> None:
        self.model = model
        self.context = context_length(model)
        self.filled = torch.zeros(1, dtype=torch.long, device=device)
        self.width = 0
        self._forward = Forward(model, vocabulary)
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._cache = DynamicCache(config=self.model.config)
        self._snapshots: list[_Snapshot] = []
        self._agreed = 0

    @property
    def forwards(self) -> int:
        """Forward calls so far."""
        return self._forward.count

    def forward(self, tokens: Tensor, end: Tensor, keep: int, hidden: bool = False) -> Scores:
        """See the row of `tokens` [1, L] up to `end` [1]; its last `keep` positions may be forgotten again."""
        begin, stop = torch.cat([self.filled, end]).tolist()
        self.width = stop - max(begin, self._agreed)  # seeing again what was accepted is a part of verifying
        settled = max(begin, stop - keep) if self._has_states else begin
        if begin < settled:
            self._see(tokens[:, begin:settled], begin, keep=1, hidden=False, final=True)
        scores = self._see(tokens[:, settled:stop], settled, keep, hidden, final=False)
        self.filled = end
        return scores

    def rewind(self, agreed: Tensor) -> None:
        """Forget what was seen past `agreed` [1]."""
        self._agreed, seen = torch.cat([torch.minimum(self.filled, agreed), self.filled]).tolist()
        if self._agreed == seen:
            self._snapshots.clear()  # nothing goes back behind what was agreed on
            return
        last = next((taken for taken in reversed(self._snapshots) if taken.length <= self._agreed), None)
        if last is None:
            self._begin_anew()
        else:
            self._cache.layers = last.restored(self._cache, self._agreed)
            self._snapshots.clear()
        reached = 0 if last is None else last.length if self._has_states else self._agreed
        self.filled = torch.full_like(self.filled, reached)

    @property
    def _has_states(self) -> bool:
        return any(type(layer) is not DynamicLayer for layer in self._cache.layers)

    def _see(self, tokens: Tensor, begin: int, keep: int, hidden: bool, final: bool) -> Scores:
        """See `tokens` [1, W], which follow `begin` others; they are `final` if they will not be forgotten."""
        if self.steps and begin and tokens.shape[1] > 1:
            each = [self._see(tokens[:, at : at + 1], begin + at, 1, hidden, final) for at in range(tokens.shape[1])]
            return joined(each[-keep:])
        if not final:
            self._snapshots.append(_Snapshot(self._cache, begin))
        told = {}
        if self._forward.names("position_ids"):  # not every model counts on from what its cache holds
            told["position_ids"] = torch.arange(begin, begin + tokens.shape[1], device=tokens.device).unsqueeze(0)
        return self._forward(tokens, self._cache, keep, hidden, **told)


class SteppedRow(SingleRow):
    """`SingleRow` for models that go on from a state by single tokens only: exact, and no faster than not drafting."""

    steps = True


class _Snapshot:
    """What the layers of `cache` hold after `length` tokens."""

    def __init__(self, cache: DynamicCache, length: int) -> None:
        self.length = length
        self._layers = [None if type(layer) is DynamicLayer else _copied(layer) for layer in cache.layers]

    def restored(self, cache: DynamicCache, agreed: int) -> list[Any]:
        """The layers as they were. Those of keys and values alone are cut from `cache` instead, at `agreed` tokens."""
        length = agreed if all(layer is None for layer in self._layers) else self.length
        return [
            _shortened(now, length) if then is None else then
            for now, then in zip(cache.layers, self._layers, strict=True)
        ]


def _copied(layer: Any) -> Any:
    """A copy of a layer. States may be written in place and are copied; keys and values are replaced as they grow."""
    twin = copy.copy(layer)
    for name, value in vars(layer).items():
        if isinstance(value, dict):
            setattr(twin, name, {key: _clone(part) for key, part in value.items()})
        elif name not in ("keys", "values"):
            setattr(twin, name, _clone(value))
    return twin


def _clone(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _shortened(layer: Any, length: int) -> Any:
    if layer.is_initialized:
        layer.keys, layer.values = layer.keys[..., :length, :], layer.values[..., :length, :]
    return layer
