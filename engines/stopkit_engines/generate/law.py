"""What `generate` makes of logits: a law that is told in numbers where it can be, and processors where not."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.generation import (
    LogitsProcessor,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

WARPERS: tuple[tuple[type[Any], str], ...] = (
    (TemperatureLogitsWarper, "temperature"),
    (TopKLogitsWarper, "top_k"),
    (TopPLogitsWarper, "top_p"),
    (MinPLogitsWarper, "min_p"),
)
"""Those that have a name among the fields of `Sampling`, in the order in which both apply them."""


class Law(NamedTuple):
    """How tokens are chosen."""

    sampling: dict[str, Any]
    """Fields of `Sampling`."""
    processors: Sequence[LogitsProcessor]
    """What is applied before that."""


def law(processors: Sequence[LogitsProcessor], sample: bool, whole: bool) -> Law:
    """The law of the `processors` that `generate` has made; `sample` says whether tokens are drawn.

    With `whole` all of them stay processors, so that what they make of logits can be told as scores.
    """
    if not sample or whole:
        return Law({"temperature": float(sample)}, processors)
    fields: dict[str, Any] = {"temperature": 1.0}
    rest = list(processors)
    for warper, name in reversed(WARPERS):
        if rest and type(rest[-1]) is warper and _is_plain(rest[-1], name):
            fields[name] = getattr(rest.pop(), name)
    return Law(fields, rest)


def _is_plain(warper: Any, name: str) -> bool:
    """Whether it does what the field of `Sampling` does."""
    forbids = getattr(warper, "filter_value", -torch.inf) == -torch.inf
    return forbids and getattr(warper, "min_tokens_to_keep", 1) == 1 and getattr(warper, name) > 0


class RowProcessor:
    """A processor of transformers for one row of a batch, which it is shown as `generate` would show it.

    `prompts` [B, L] are those of all rows, padding included, and `length` the number of tokens that the engine knows
    of this one's. Some processors tell rows apart by their place, so all places are filled with this row.
    """

    def __init__(self, processor: LogitsProcessor, prompts: Tensor, row: int, length: int) -> None:
        self.__name__ = type(processor).__name__
        self._processor, self._row, self._length = processor, row, length
        self._prompt, self._rows = prompts[row : row + 1], len(prompts)

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        device = self._prompt.device  # that of the user's tokens, where `generate` makes its processors
        text = torch.cat([self._prompt, ids[:, self._length :].to(device)], 1).repeat(self._rows, 1)
        made: Tensor = self._processor(text, scores.to(device).repeat(self._rows, 1))
        return made[self._row : self._row + 1].to(scores.device)
