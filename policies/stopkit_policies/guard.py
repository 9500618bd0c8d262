"""`guard`: any policy, as long as it gains; never much slower than without speculation.

Rule: a purse holds tokens. A round that drafts puts its gain into it, tokens − time, time in target steps; a round that
does not puts in (1 − floor) / 2. A block is at most as long as the purse could pay for, were none of it accepted. So a
gain below 1 empties the purse and speculation ends; what rounds without it save pays for the next trial, and one that
succeeds fills the purse at once.

The purse holds (1 − floor) / 2·window at most. Over any window of at least so many target steps, tokens are then at
least floor times the steps, whatever is accepted: autoregressive decoding gives one a step, the rounds without a block
lose half of 1 − floor on it, and all others together no more than the purse held.

Source: Cascade (arXiv 2506.20675), which measures the utility of speculation in short tests, switches it off for longer
where it is below 1, and limits the slow-down to 5%.

Choices: the purse in place of phases of fixed lengths, since it can be proved; floor 0.97 and window 256. Time is what
was measured, but no less than the block costs by the cost model, and no more than with one draft step that did not
enter it: prompts and pauses of the machine are not the policy's. Its own time is not counted. With `carry_over` there
is one purse for all sequences.
"""

from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from stopkit import (
    CarryOver,
    Combinator,
    Drawn,
    NestedPolicy,
    RoundContext,
    RoundOutcome,
    Signals,
    State,
    StoppingPolicy,
)
from stopkit_policies.static import Static

LONGEST = 1024
SMALLEST = 1e-9


class Guard(Combinator):
    """A policy that is switched off where it does not gain, and tried again."""

    kind: ClassVar[str] = "guard"
    formula: ClassVar[str] = "cap = min(the policy's, what past gains and savings can pay for)"
    source: ClassVar[str] = "Cascade, arXiv 2506.20675"

    policy: NestedPolicy = Field(default=Static(), description="the policy to guard")
    floor: float = Field(
        default=0.97, ge=0.5, le=0.999, description="least speed, in that of autoregressive decoding, over a window"
    )
    window: float = Field(default=256, ge=1, le=1_000_000, description="target steps over which that holds")
    carry_over: CarryOver = True

    @property
    def members(self) -> tuple[StoppingPolicy, ...]:
        return (self.policy,)

    @property
    def saved(self) -> float:
        """What a round without a block puts into the purse, tokens."""
        return (1 - self.floor) / 2

    def init(self, batch_size: int, device: torch.device) -> State:
        purse = State.learned(batch_size, device, shared=self.carry_over, purse=self.saved * self.window)
        cap = State(rows={"cap": torch.zeros(batch_size, dtype=torch.long, device=device)})
        return super().init(batch_size, device) | purse | cap

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        within = self._within(state, context)
        cap, part = self.policy.plan(state.parts[0], within)
        cap = torch.minimum(cap, within.limit)
        return cap, replace(state.put(cap=cap), parts=(part,))

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        admitted, part = self.policy.admit(state.parts[0], position, signals)
        return admitted, replace(state, parts=(part,))

    def extend(self, state: State, position: Tensor, signals: Signals, drawn: Drawn) -> tuple[Tensor, State]:
        extended, part = self.policy.extend(state.parts[0], position, signals, drawn)
        return extended, replace(state, parts=(part,))

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        costs = outcome.context.costs
        least = costs.round(outcome.drafted)
        seconds = torch.minimum(torch.maximum(outcome.seconds, least), least + costs.draft_step)
        gain = outcome.accepted + 1 - seconds / costs.verify
        purse = state["purse"] + gain.where(state.rows["cap"] > 0, self.saved)
        learned = state.moved(outcome.context.active, purse=purse.clamp(max=self.saved * self.window))
        seen = replace(outcome, context=self._within(state, outcome.context))
        return replace(learned, parts=(self.policy.learn(state.parts[0], seen),))

    def _within(self, state: State, context: RoundContext) -> RoundContext:
        """The context with limits that the purse can pay for."""
        costs = context.costs
        a_token = (costs.token / costs.verify).clamp(min=SMALLEST)
        paid = ((state["purse"] - costs.block_cost) / a_token).clamp(0, LONGEST).floor().long()
        return replace(context, limit=torch.minimum(context.limit, paid))
