"""`warmup`: one policy for the first rounds, another from then on.

Use it to let a policy that learns see something before it decides: both learn from every round, each from the part of
the block that it would have drafted itself.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from stopkit import CarryOver, NestedPolicy, RoundOutcome, SideBySide, State, StoppingPolicy
from stopkit_policies.best_length import BestLength
from stopkit_policies.static import Static


class Warmup(SideBySide):
    """A policy to begin with, and one to go on with."""

    kind: ClassVar[str] = "warmup"
    formula: ClassVar[str] = "`first` for some rounds, then `then`"

    first: NestedPolicy = Field(default=Static(), description="the policy of the first rounds")
    then: NestedPolicy = Field(default=BestLength(), description="the policy of all other rounds")
    rounds: int = Field(default=8, ge=0, le=1_000_000, description="rounds that `first` decides")
    carry_over: CarryOver = False

    @property
    def members(self) -> tuple[StoppingPolicy, ...]:
        return (self.first, self.then)

    def init(self, batch_size: int, device: torch.device) -> State:
        return super().init(batch_size, device) | State.learned(batch_size, device, shared=self.carry_over, round=0)

    def combine(self, state: State, lengths: Tensor) -> Tensor:
        first, then = lengths.unbind(1)
        return first.where(state["round"] < self.rounds, then)

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        return super().learn(state, outcome).moved(outcome.context.active, round=state["round"] + 1)
