"""`batch_table`: a draft length for every batch size, and for every length of the text.

Rule: the length that the table gives for the number of sequences that are generating. The more of them there are, the
less idle arithmetic a verification can use, and the fewer tokens are worth drafting. An entry may be a table itself, by
the tokens that a sequence has so far: the longer the text, the more a verification waits for the cache, whatever the
block.

Source: serving engines: vLLM sets the number of speculative tokens by batch size, TensorRT-LLM has a schedule of draft
lengths. Here each entry is the batch size from which on its length holds; the default is 3 tokens up to 16 sequences, 2
up to 64 and none above. The context length as a second key is one of the proposals that vLLM's request for comments
54749 collects; a sequence whose length is not told counts as a short one.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Discriminator, Field, Tag, field_validator
from torch import Tensor

from stopkit import RoundContext, State, StoppingPolicy

BatchSize = Annotated[int, Field(ge=1)]
Tokens = Annotated[int, Field(ge=0)]
Length = Annotated[int, Field(ge=0, le=1024)]
Entry = int | Mapping[int, int]


def _form(entry: Any) -> str:
    return "[table]" if isinstance(entry, Mapping) else "[length]"  # in brackets, as what is no step of a place


LengthOrTable = Annotated[
    Annotated[Length, Tag("[length]")] | Annotated[Mapping[Tokens, Length], Tag("[table]")], Discriminator(_form)
]
"""One of the two by its form, so that a mistake has one line."""


class BatchTable(StoppingPolicy):
    """A draft length by batch size, and by context length."""

    kind: ClassVar[str] = "batch_table"
    formula: ClassVar[str] = "cap = table[batch size], or table[batch size][context length]"
    source: ClassVar[str] = "vLLM, TensorRT-LLM"

    table: Mapping[BatchSize, LengthOrTable] = Field(
        default={1: 3, 17: 2, 65: 0},
        description="the batch size (≥ 1) from which on a length (0 … 1024) holds, or a table of lengths by the tokens "
        "(≥ 0) so far from which on each holds; none is drafted below the first",
    )

    @field_validator("table")
    @classmethod
    def _ascending(cls, table: Mapping[int, Entry]) -> Mapping[int, Entry]:
        def ordered(entry: Entry) -> Entry:
            return entry if isinstance(entry, int) else dict(sorted(entry.items()))

        return {size: ordered(entry) for size, entry in sorted(table.items())}

    @property
    def required_context(self) -> frozenset[str]:
        return frozenset() if all(isinstance(entry, int) for entry in self.table.values()) else frozenset({"length"})

    @property
    def couples_rows(self) -> bool:
        return True  # a sequence that ends makes the batch smaller

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        length = torch.zeros_like(context.limit)
        for first, entry in self.table.items():
            length = torch.where(context.batch_size >= first, _for_text(entry, context.length), length)
        return torch.minimum(length, context.limit), state


def _for_text(entry: Entry, tokens: Tensor) -> Tensor:
    """The draft length, [B], after so many `tokens` [B]."""
    if isinstance(entry, int):
        return torch.full_like(tokens, entry)
    length = torch.zeros_like(tokens)
    for first, drafted in entry.items():
        length = torch.where(tokens.clamp(min=0) >= first, drafted, length)
    return length
