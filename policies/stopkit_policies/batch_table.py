"""`batch_table`: a draft length for every batch size.

Rule: the length that the table gives for the number of sequences that are generating. The more of them there are, the
less idle arithmetic a verification can use, and the fewer tokens are worth drafting.

Source: serving engines: vLLM sets the number of speculative tokens by batch size, TensorRT-LLM has a schedule of draft
lengths. Here each entry is the batch size from which on its length holds; the default is 3 tokens up to 16 sequences, 2
up to 64 and none above.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field, field_validator
from torch import Tensor

from stopkit import RoundContext, State, StoppingPolicy

BatchSize = Annotated[int, Field(ge=1)]
Length = Annotated[int, Field(ge=0, le=1024)]


class BatchTable(StoppingPolicy):
    """A draft length by batch size."""

    kind: ClassVar[str] = "batch_table"
    formula: ClassVar[str] = "cap = table[batch size]"
    source: ClassVar[str] = "vLLM, TensorRT-LLM"

    table: Mapping[BatchSize, Length] = Field(
        default={1: 3, 17: 2, 65: 0},
        description="the batch size (≥ 1) from which on a length (0 … 1024) holds; none is drafted below the first",
    )

    @field_validator("table")
    @classmethod
    def _ascending(cls, table: Mapping[int, int]) -> Mapping[int, int]:
        return dict(sorted(table.items()))

    @property
    def couples_rows(self) -> bool:
        return True  # a sequence that ends makes the batch smaller

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        length = torch.zeros_like(context.batch_size)
        for first, tokens in self.table.items():
            length = torch.where(context.batch_size >= first, tokens, length)
        return torch.minimum(length, context.limit), state
