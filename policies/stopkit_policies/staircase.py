"""`staircase`: one token more after N blocks in a row that went well, one less after N that did not.

Rule: a round succeeds if all of its block but B tokens at most is accepted. After N successes in a row k grows by one,
after N failures in a row it shrinks by one; then counting begins anew.

Source: llama.cpp, pull request 25726, whose author runs it with N = 11 and B = 0 or 1.

Choices: k begins at 3, llama.cpp's draft length; it stays at 1 or above, as from 0 it would never come back. A round
that drafts nothing counts as neither.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from stopkit import CarryOver, RoundContext, RoundOutcome, State, StoppingPolicy


class Staircase(StoppingPolicy):
    """A draft length that takes a step only after several rounds that agree."""

    kind: ClassVar[str] = "staircase"
    formula: ClassVar[str] = "k + 1 after N whole blocks in a row, k − 1 after N others in a row"
    source: ClassVar[str] = "llama.cpp, pull request 25726"

    start: int = Field(default=3, ge=1, le=1024, description="tokens to draft in the first round")
    in_a_row: int = Field(default=11, ge=1, le=1024, description="N, rounds that have to agree before a step")
    bias: int = Field(default=0, ge=0, le=1024, description="B, rejected tokens that a whole block may have")
    min_draft: int = Field(default=1, ge=1, le=1024, description="fewest tokens a round")
    max_draft: int = Field(default=16, ge=1, le=1024, description="most tokens a round; stronger than the fewest")
    carry_over: CarryOver = False

    def init(self, batch_size: int, device: torch.device) -> State:
        length = min(max(self.start, self.min_draft), self.max_draft)
        return State.learned(batch_size, device, shared=self.carry_over, length=length, streak=0)

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return torch.minimum(state["length"].long(), context.limit), state

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        succeeds, streak = outcome.accepted >= outcome.drafted - self.bias, state["streak"]
        streak = (streak.clamp(min=0) + 1).where(succeeds, streak.clamp(max=0) - 1)
        step = (streak >= self.in_a_row).double() - (streak <= -self.in_a_row).double()
        length = (state["length"] + step).clamp(self.min_draft, self.max_draft)
        return state.moved(outcome.drafted > 0, length=length, streak=streak.where(step == 0, 0.0))
