"""One row of tokens and the branches that leave it: a tree, run through a model with one explicit attention mask.

The row's keys and values are computed once and never copied, however many branches see them.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from stopkit_engines.batch.runner import Scores
from stopkit_engines.hf.cached_model import CachedModel
from stopkit_engines.hf.forward import context_length


class Branches:
    """`model` over a trunk, and up to `most` branches of fewer than `depth` tokens at a time.

    The trunk is `tokens` [L], cut to the model's context; `keep` of its places can be left at: the last, counted as if
    nothing had been cut.
    """

    def __init__(
        self, model: Any, vocabulary: int, tokens: Tensor, keep: int, most: int, depth: int, hidden: bool = False
    ) -> None:
        self.context = context_length(model)
        self._hidden = hidden
        self._first = len(tokens) - keep + 1
        trunk = tokens[: self.context]
        self._length = len(trunk)
        kept = max(1, self._length - self._first + 1)
        slots = self._length + most * (depth - 1)
        self._cached = CachedModel(model, vocabulary, 1, slots, tokens.device)
        self._cached.make_room(slots)
        end = torch.tensor([self._length], device=tokens.device)
        self._trunk = _each(self._cached.forward(trunk.unsqueeze(0), end, kept, hidden), lambda value: value[0])

    def leave(self, after: Tensor) -> Scores:
        """Begin anew, with a branch after the trunk's first `after[r]` tokens; the scores there, [R, V] and [R, D]."""
        self._after, self._depth = after, 0
        at = (after - self._first).clamp(max=len(self._trunk.logits) - 1)
        return _each(self._trunk, lambda value: value[at])

    def forward(self, tokens: Tensor) -> Scores:
        """Append `tokens` [R, W] to the branches: logits [R, W, V], hidden states [R, W, D]."""
        branches, width = tokens.shape
        branch, depth = torch.arange(branches, device=tokens.device), torch.arange(width, device=tokens.device)
        branch, depth = branch.view(-1, 1, 1), (depth + self._depth).view(1, -1, 1)
        self._depth += width
        trunk = torch.arange(self._length, device=tokens.device) < self._after.view(-1, 1, 1)
        # Depth by depth, so that what the branches hold so far is the beginning of what the cache holds.
        grown = torch.arange(self._depth * branches, device=tokens.device)
        own = (grown % branches == branch) & (grown // branches <= depth)
        slots = self._length + depth * branches + branch
        held = (
            torch.arange(self._length, device=tokens.device),
            (self._after + grown.view(-1, branches) // branches).flatten(),
        )
        positions = (self._after.view(-1, 1, 1) + depth).clamp(max=self.context - 1)  # past it nothing is asked for
        scores = self._cached.see(
            tokens.view(1, -1),
            slots.view(1, -1),
            positions.view(1, -1),
            torch.cat([trunk.expand(-1, width, -1), own], 2).flatten(0, 1).unsqueeze(0),
            torch.cat(held),
            keep=branches * width,
            hidden=self._hidden,
        )
        return _each(scores, lambda value: value[0].view(branches, width, -1))


def _each(scores: Scores, change: Callable[[Tensor], Tensor]) -> Scores:
    return Scores(*(None if value is None else change(value) for value in scores))  # type: ignore[arg-type]
