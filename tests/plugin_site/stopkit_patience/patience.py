"""`patience`: one unsure position is forgiven, the second one ends the block."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from stopkit import RoundContext, Signals, State, StoppingPolicy


class Patience(StoppingPolicy):
    """Stops when the draft model has been unsure too often in one round."""

    kind: ClassVar[str] = "patience"
    signals: ClassVar[frozenset[str]] = frozenset({"max_probability"})
    formula: ClassVar[str] = "stop at the position that is the patience-th of its round with max q < unsure_below"
    source: ClassVar[str] = "the tutorial of stopkit"

    patience: int = Field(default=2, ge=1, le=1024, description="this many unsure positions end the block")
    unsure_below: float = Field(default=0.5, ge=0, le=1, description="a position is unsure below this probability")
    max_draft: int = Field(default=8, ge=0, le=1024, description="most tokens a round")

    def init(self, batch_size: int, device: torch.device) -> State:
        return State(rows={"unsure": torch.zeros(batch_size, dtype=torch.long, device=device)})

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        forgotten = State(rows={"unsure": torch.zeros_like(state.rows["unsure"])})
        return context.limit.clamp(max=self.max_draft), forgotten

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        unsure = state.rows["unsure"] + (signals.max_probability < self.unsure_below)
        return unsure < self.patience, State(rows={"unsure": unsure})
