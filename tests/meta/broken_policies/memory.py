"""A policy that is no function of its state, or whose rows are not their own."""

import itertools
import random

import torch
from pydantic import Field, PrivateAttr
from torch import Tensor

from stopkit import RoundContext, RoundOutcome, Signals, State
from tests.meta.broken_policies.sound import Sound, caught_by


@caught_by("gives_equal_answers_to_equal_questions", "plan: a second call")
class RollsDice(Sound):
    """Explores at random."""

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return torch.randint_like(context.limit, 0, 1000), state


CALLS = itertools.count()


@caught_by("gives_equal_answers_to_equal_questions", "plan: a second call")
class CountsCalls(Sound):
    """Remembers in a global of its module."""

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return context.limit * (next(CALLS) % 3), state


@caught_by("leaves_its_inputs_unchanged", "learn: changes the State")
class LearnsInPlace(Sound):
    """Writes into the state that it was given."""

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        state["length"].add_(1)
        return state


@caught_by("leaves_its_inputs_unchanged", "plan: changes the RoundContext")
class CapsTheContext(Sound):
    """Writes into the context."""

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return context.limit.clamp_(max=1), state


@caught_by("leaves_its_inputs_unchanged", "learn: changes the State")
class ReplacesInTheState(Sound):
    """Writes into the state's dict."""

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        state.rows["length"] = state["length"] + 1  # type: ignore[index]
        return state


@caught_by("leaves_global_randomness_alone", "the random generator of torch moved")
class SeedsTorch(Sound):
    """Makes itself repeatable, and everything else too."""

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        torch.manual_seed(0)
        return context.limit, state


@caught_by("leaves_global_randomness_alone", "the random generator of Python moved")
class DrawsFromPython(Sound):
    """Draws, though nothing comes of it."""

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        random.random()
        return context.limit, state


@caught_by("remembers_only_in_its_state", "drafts differently")
class RemembersInPrivate(Sound):
    """Drafts less and less, by an attribute that is no field."""

    _rounds: int = PrivateAttr(default=0)

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        self._rounds += 1
        return state

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return context.limit.clamp(max=max(0, 4 - self._rounds)), state


ROUNDS: list[int] = []


@caught_by("remembers_only_in_its_state", "it does not fail every time")
class RemembersInAGlobal(Sound):
    """Drafts only in its first hundred rounds, by a list that lives as long as the process."""

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        ROUNDS.append(1)
        return state

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return context.limit * (len(ROUNDS) < 100), state


@caught_by("remembers_only_in_its_state", "its fields were")
class ChangesItsField(Sound):
    """Keeps what it learned in a list that is a field."""

    lengths: list[int] = Field(default=[], description="lengths so far")

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        self.lengths.append(1)
        return state


@caught_by("decides_row_by_row", "drafts otherwise")
class LooksAtOtherRows(Sound):
    """Compares a row with the mean of the batch."""

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        return signals.entropy <= signals.entropy.mean(), state


@caught_by("decides_row_by_row", "drafts otherwise")
class PrefersTheFirstRow(Sound):
    """Lets only the first row draft."""

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return context.limit * (torch.arange(len(context.limit), device=context.limit.device) == 0), state


@caught_by("shares_only_what_it_declares", "rows.length of the state differs.\nalone: ")
class LearnsFromOtherRows(Sound):
    """Moves every row by the mean of the batch, and does not say so."""

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        return state.moved(outcome.drafted > 0, length=state["length"] + outcome.accepted.double().mean())


@caught_by("lets_sequences_leave_and_join", "rows.length of the state differs")
class SharesABudget(Sound):
    """Gives every sequence its part of a budget when it begins."""

    def init(self, batch_size: int, device: torch.device) -> State:
        return State.learned(batch_size, device, shared=False, length=12 // batch_size)


@caught_by("lets_sequences_leave_and_join", "has not the form of a new one")
class StateOfRowsThatIsNot(Sound):
    """Says that all rows share what has a place for each of them."""

    def init(self, batch_size: int, device: torch.device) -> State:
        return State(shared=super().init(batch_size, device).rows)

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        return state
