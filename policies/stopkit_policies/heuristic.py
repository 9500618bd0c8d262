"""`heuristic`: draft more after a block that was accepted whole, less after any other.

Rule: k + 2 after a round in which all drafted tokens were accepted, else max(1, k − 1).

Source: assisted generation in Hugging Face transformers, `num_assistant_tokens_schedule`. Its `heuristic` keeps k
from one generation to the next, which is `carry_over = true`; its `heuristic_transient` starts afresh, the default
here.

Choices: k starts at 5, as it did in transformers for long; a round that drafts nothing changes nothing. With
`carry_over` and several sequences at a time, k is the mean of what each makes of it, rounded down.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from stopkit import CarryOver, RoundContext, RoundOutcome, State, StoppingPolicy


class Heuristic(StoppingPolicy):
    """Additive increase and decrease of the draft length."""

    kind: ClassVar[str] = "heuristic"
    formula: ClassVar[str] = "k + 2 after a block accepted whole, else max(1, k − 1)"
    source: ClassVar[str] = "transformers, num_assistant_tokens_schedule"

    start: int = Field(default=5, ge=1, le=1024, description="tokens to draft in the first round")
    increase: int = Field(default=2, ge=0, le=1024, description="tokens more after a block that was accepted whole")
    decrease: int = Field(default=1, ge=0, le=1024, description="tokens less after any other block")
    carry_over: CarryOver = False

    def init(self, batch_size: int, device: torch.device) -> State:
        return State.learned(batch_size, device, shared=self.carry_over, length=self.start)

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return torch.minimum(state["length"].long(), context.limit), state

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        longer, shorter = state["length"] + self.increase, (state["length"] - self.decrease).clamp(min=1)
        whole = outcome.accepted == outcome.drafted
        return state.moved(outcome.drafted > 0, length=longer.where(whole, shorter))
