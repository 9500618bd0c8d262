"""`capped`: any policy, but never more than so many tokens.

The block may be shorter than the policy asked for, as when little is left to generate; the policy learns from it as it
was.
"""

from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from stopkit import Combinator, Drawn, NestedPolicy, RoundContext, RoundOutcome, Signals, State, StoppingPolicy
from stopkit_policies.adaedl import AdaEDL


class Capped(Combinator):
    """A policy with a most number of tokens."""

    kind: ClassVar[str] = "capped"
    formula: ClassVar[str] = "cap = min(cap of the policy, max_draft)"

    policy: NestedPolicy = Field(default=AdaEDL(), description="the policy that decides below the cap")
    max_draft: int = Field(default=3, ge=0, le=1024, description="most tokens a round")

    @property
    def members(self) -> tuple[StoppingPolicy, ...]:
        return (self.policy,)

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        within = self._within(context)
        cap, part = self.policy.plan(state.parts[0], within)
        return torch.minimum(cap, within.limit), State(parts=(part,))

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        admitted, part = self.policy.admit(state.parts[0], position, signals)
        return admitted, State(parts=(part,))

    def extend(self, state: State, position: Tensor, signals: Signals, drawn: Drawn) -> tuple[Tensor, State]:
        extended, part = self.policy.extend(state.parts[0], position, signals, drawn)
        return extended, State(parts=(part,))

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        seen = replace(outcome, context=self._within(outcome.context))
        return State(parts=(self.policy.learn(state.parts[0], seen),))

    def _within(self, context: RoundContext) -> RoundContext:
        return replace(context, limit=context.limit.clamp(max=self.max_draft))
