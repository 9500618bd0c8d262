"""Policies made of policies: fields that hold any registered policy, and what every combinator does."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import torch
from pydantic import PlainSerializer
from torch import Tensor

from stopkit.kinds import as_block
from stopkit.policy import Drawn, RoundContext, RoundOutcome, StoppingPolicy
from stopkit.signals import Signals
from stopkit.spec import load_policy
from stopkit.state import State
from stopkit.validation import nested

NestedPolicy = Annotated[StoppingPolicy, nested(load_policy), PlainSerializer(as_block)]
"""A field that holds any registered policy: in a config its kind, KIND:field=value, or a table with its kind."""


class Combinator(StoppingPolicy):
    """A policy made of those in its fields; their states are the parts of its own."""

    @property
    @abstractmethod
    def members(self) -> tuple[StoppingPolicy, ...]:
        """The policies that this one is made of, always in the same order."""

    @property
    def required_signals(self) -> frozenset[str]:
        return self.signals.union(*(member.required_signals for member in self.members))

    @property
    def required_context(self) -> frozenset[str]:
        return self.context.union(*(member.required_context for member in self.members))

    @property
    def couples_rows(self) -> bool:
        return super().couples_rows or any(member.couples_rows for member in self.members)

    def init(self, batch_size: int, device: torch.device) -> State:
        return State(parts=tuple(member.init(batch_size, device) for member in self.members))

    def pairs(self, state: State) -> "zip[tuple[StoppingPolicy, State]]":
        """Each member with its own state."""
        return zip(self.members, state.parts, strict=True)


class SideBySide(Combinator):
    """Members that each decide for themselves where to stop; `combine` says what becomes of their lengths.

    A member that has stopped is not asked again in that round. It learns from the part of the block that it would have
    drafted itself, unless `taught` leaves it out.
    """

    @abstractmethod
    def combine(self, state: State, lengths: Tensor) -> Tensor:
        """The block's length, [B], from what each of the n members would draft as far as it is known, [B, n]; long."""

    def taught(self, state: State, outcome: RoundOutcome) -> Tensor:
        """Whose round it was, [B, n] bool: the members that learn from it. All of them, unless overridden."""
        return outcome.context.active.unsqueeze(1).expand_as(state.rows["lengths"])

    def init(self, batch_size: int, device: torch.device) -> State:
        lengths = torch.zeros(batch_size, len(self.members), dtype=torch.long, device=device)
        return replace(super().init(batch_size, device), rows={"lengths": lengths})

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        caps, parts = zip(*(member.plan(part, context) for member, part in self.pairs(state)), strict=True)
        lengths = torch.minimum(torch.stack(caps, 1), context.limit.unsqueeze(1))
        return self.combine(state, lengths), State({**state.rows, "lengths": lengths}, state.shared, parts)

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        answers = [member.admit(part, position, signals) for member, part in self.pairs(state)]
        return self._ask(state, position, answers, end=position)

    def extend(self, state: State, position: Tensor, signals: Signals, drawn: Drawn) -> tuple[Tensor, State]:
        answers = [member.extend(part, position, signals, drawn) for member, part in self.pairs(state)]
        return self._ask(state, position, answers, end=position + 1)

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        whose = self.taught(state, outcome).unbind(1)
        lengths = state.rows["lengths"].unbind(1)
        parts = tuple(
            member.learn(part, own_part(outcome, length, learns)).where(learns, part)
            for (member, part), length, learns in zip(self.pairs(state), lengths, whose, strict=True)
        )
        return replace(state, parts=parts)

    def _ask(
        self, state: State, position: Tensor, answers: Sequence[tuple[Tensor, State]], end: Tensor
    ) -> tuple[Tensor, State]:
        """Whether the block goes on beyond `end` [B], where it ends for the members that say no at `position`."""
        lengths = state.rows["lengths"]
        parts = tuple(
            new if new is old else new.where(length > position, old)
            for (_, new), old, length in zip(answers, state.parts, lengths.unbind(1), strict=True)
        )
        yes = torch.stack([answer for answer, _ in answers], 1)
        lengths = lengths.where(yes, torch.minimum(lengths, end.unsqueeze(1)))
        return self.combine(state, lengths) > end, State({**state.rows, "lengths": lengths}, state.shared, parts)


def own_part(outcome: RoundOutcome, length: Tensor, rows: Tensor) -> RoundOutcome:
    """The round as `rows` (bool [B]) would have had it with blocks of at most `length` [B]; others took no part."""
    own = length.where(rows, 0)
    return replace(
        outcome,
        context=replace(outcome.context, active=outcome.context.active & rows),
        drafted=torch.minimum(outcome.drafted, own),
        accepted=torch.minimum(outcome.accepted, own),
    )
