"""`per_position`: a policy for every part of the block.

Each policy decides on the positions from its own up to the next one's, the first also on those before. A policy's cap
holds at its own positions, and it sees no others. All of them learn from the whole round.

The default is lenient with the first two tokens and stricter with those after them, which are seldom reached.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field, field_validator
from torch import Tensor

from stopkit import Combinator, Drawn, NestedPolicy, RoundContext, RoundOutcome, Signals, State, StoppingPolicy
from stopkit_policies.max_probability import MaxProbability

Start = Annotated[int, Field(ge=0, le=1024)]


class PerPosition(Combinator):
    """One policy for the first positions of a block, another for those after them, and so on."""

    kind: ClassVar[str] = "per_position"
    formula: ClassVar[str] = "position t is decided by the last policy that begins at t or before"

    policies: Mapping[Start, NestedPolicy] = Field(
        default={0: MaxProbability(threshold=0.3), 2: MaxProbability()},
        min_length=1,
        description="the policies, by the position (0 … 1024) from which on each decides",
    )

    @field_validator("policies")
    @classmethod
    def _ascending(cls, policies: Mapping[int, StoppingPolicy]) -> Mapping[int, StoppingPolicy]:
        return dict(sorted(policies.items()))

    @property
    def members(self) -> tuple[StoppingPolicy, ...]:
        return tuple(self.policies.values())

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        answers = [policy.plan(part, context) for policy, part in self.pairs(state)]
        cap = context.limit
        for (start, end), (own, _) in zip(self._spans(), answers, strict=True):
            cap = torch.minimum(cap, own.clamp(min=start).where(own < end, cap))
        return cap, replace(state, parts=tuple(part for _, part in answers))

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        answers = [policy.admit(part, position, signals) for policy, part in self.pairs(state)]
        return self._decide(state, position, answers)

    def extend(self, state: State, position: Tensor, signals: Signals, drawn: Drawn) -> tuple[Tensor, State]:
        answers = [policy.extend(part, position, signals, drawn) for policy, part in self.pairs(state)]
        return self._decide(state, position, answers)

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        return replace(state, parts=tuple(policy.learn(part, outcome) for policy, part in self.pairs(state)))

    def _spans(self) -> "zip[tuple[int, float]]":
        """The first position of each policy, and the first that is not its own any more."""
        later = list(self.policies)[1:]
        return zip((0, *later), (*later, float("inf")), strict=True)

    def _decide(self, state: State, position: Tensor, answers: Sequence[tuple[Tensor, State]]) -> tuple[Tensor, State]:
        """The answer of the policy that `position` belongs to, and a new state for that policy alone."""
        decision = answers[0][0]
        for start, (answer, _) in zip(list(self.policies)[1:], answers[1:], strict=True):
            decision = answer.where(position >= start, decision)
        parts = tuple(
            new if new is old else new.where((position >= start) & (position < end), old)
            for (start, end), (_, new), old in zip(self._spans(), answers, state.parts, strict=True)
        )
        return decision, State(parts=parts)
