"""The tester is tested: for every check of the conformance kit there is a broken policy that it catches.

Each mutant breaks one thing in a sound policy and names the check that must fail, with words of its message.
"""

import itertools
import random
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import pytest
import torch
from pydantic import BaseModel, Field, PrivateAttr, field_validator
from torch import Tensor

from stopkit import Drawn, RoundContext, RoundOutcome, Signals, State, StoppingPolicy
from stopkit.testing.checks import Check, Verdict
from stopkit.testing.for_policies import POLICY_CHECKS

CHECKS: dict[str, Check] = {check.name: check for check in POLICY_CHECKS}
MUTANTS: dict[str, tuple[str, str, type[StoppingPolicy]]] = {}
Mutant = TypeVar("Mutant", bound=type[StoppingPolicy])


class Sound(StoppingPolicy):
    """Drafts while it is sure, one token more after a block that was accepted whole, else one less."""

    kind: ClassVar[str] = "sound"
    signals: ClassVar[frozenset[str]] = frozenset({"entropy"})
    threshold: float = Field(default=0.9, ge=0, le=10, description="largest entropy to draft at, nats")

    def init(self, batch_size: int, device: torch.device) -> State:
        return State.learned(batch_size, device, shared=False, length=2)

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return torch.minimum(state["length"].long(), context.limit), state

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        return signals.entropy <= self.threshold, state

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        step = torch.where(outcome.accepted == outcome.drafted, 1.0, -1.0)
        return state.moved(outcome.drafted > 0, length=(state["length"] + step).clamp(1, 50))


class SoundAndShared(Sound):
    """The same, and all rows share the length."""

    kind: ClassVar[str] = "sound_and_shared"

    def init(self, batch_size: int, device: torch.device) -> State:
        return State.learned(batch_size, device, shared=True, length=2)


def caught_by(check: str, words: str) -> Callable[[Mutant], Mutant]:
    """Register a broken policy, the check that must catch it, and what its message must say."""

    def register(cls: Mutant) -> Mutant:
        MUTANTS[cls.__name__] = (check, words, cls)
        return cls

    return register


@caught_by("says_what_it_is", "not a name of lower-case letters")
class KindOfTwoWords(Sound):
    """Cannot be written on a command line."""

    kind: ClassVar[str] = "Two Words"


@caught_by("says_what_it_is", "no signals ['confidence']")
class UnknownSignal(Sound):
    """Reads what no engine computes."""

    signals: ClassVar[frozenset[str]] = frozenset({"confidence"})


@caught_by("describes_every_field", "no description: patience")
class UndescribedField(Sound):
    """Says nothing of a field."""

    patience: int = Field(default=1, ge=0, le=9)


@caught_by("bounds_every_number", "patience")
class UnboundedField(Sound):
    """Takes any patience."""

    patience: int = Field(default=1, ge=0, description="rounds")


class Inner(BaseModel):
    """A table in a table."""

    rate: float = 1.0


@caught_by("bounds_every_number", "Inner.rate")
class UnboundedInside(Sound):
    """Takes any rate, one level down."""

    inner: Inner = Field(default=Inner(), description="a table")


@caught_by("has_a_short_repr", "characters, more than 200")
class LongRepr(Sound):
    """Shows all that it has."""

    weights: tuple[float, ...] = Field(default=(0.123456,) * 100, description="weights")

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return [("weights", self.weights)]


@caught_by("config_survives_a_file", "comes back as")
class ReadsPercent(Sound):
    """Takes one thing and writes another."""

    share: float = Field(default=50.0, ge=0, le=100, description="percent")

    @field_validator("share")
    @classmethod
    def _fraction(cls, share: float) -> float:
        return share / 100


@caught_by("config_survives_a_file", "comes back as")
class UnsetIsNotTheDefault(Sound):
    """Has a default other than unset, which TOML cannot say."""

    patience: int | None = Field(default=1, ge=0, le=9, description="rounds; unset for ever")

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields or {"patience": None})


@caught_by("gives_decisions_over_the_rows", ", plan: TypeError: returned a decision of torch.float64")
class CapInFloats(Sound):
    """Forgets to round its length."""

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return torch.minimum(state["length"], context.limit), state


@caught_by("gives_decisions_over_the_rows", ", admit: TypeError: returned a decision of torch.bool []")
class OneAnswerForAll(Sound):
    """Answers once for all rows."""

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        return (signals.entropy <= self.threshold).all(), state


@caught_by("gives_decisions_over_the_rows", "add it to the policy's `signals`")
class UndeclaredSignal(Sound):
    """Reads a signal that it did not ask for."""

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        return signals.margin > 0.1, state


@caught_by("keeps_the_form_of_its_state", "learn: rows.length of the state is torch.int64")
class StateChangesDtype(Sound):
    """Learns whole numbers where it began with others."""

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        return state.put(length=super().learn(state, outcome)["length"].long())


@caught_by("keeps_the_form_of_its_state", "learn: rows.seen of the state is torch.float64 [1, 2]")
class StateGrows(Sound):
    """Keeps a list of all that it saw."""

    def init(self, batch_size: int, device: torch.device) -> State:
        return super().init(batch_size, device) | State(rows={"seen": torch.zeros(batch_size, 1).double().to(device)})

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        accepted = outcome.accepted.double().unsqueeze(1)
        return super().learn(state, outcome).put(seen=torch.cat([state["seen"], accepted], 1))


@caught_by("decides_on_the_device_of_the_engine", "on another device")
class ThinksOnTheHost(Sound):
    """Makes its tensors where torch makes them by default."""

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return torch.full((len(context.limit),), 2), state


@caught_by("decides_without_waiting_for_the_device", "reads a tensor's value into Python")
class DecidesByItem(Sound):
    """Looks at the largest limit."""

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return context.limit.clamp(max=int(context.limit.max().item())), state


@caught_by("decides_without_waiting_for_the_device", "reads a tensor's value into Python")
class BranchesOnATensor(Sound):
    """Saves itself the work if there is none."""

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        return super().learn(state, outcome) if (outcome.drafted > 0).any() else state


@caught_by("decides_without_waiting_for_the_device", "reads a tensor's value into Python")
class IndexesByAMask(Sound):
    """Makes tensors whose size depends on data."""

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        sure = signals.entropy[signals.entropy > 1]
        return signals.entropy <= self.threshold + 0 * sure.sum(), state


@caught_by("compiles_without_a_break", "torch.compile breaks off")
class BreaksTheGraph(Sound):
    """Waits for no device, and tells the world."""

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        torch._dynamo.graph_break()
        return super().plan(state, context)


@caught_by("compiles_without_a_break", "when compiled")
class CompilesToSomethingElse(Sound):
    """Is bolder where it is compiled."""

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return (context.limit if torch.compiler.is_compiling() else torch.zeros_like(context.limit)), state


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


@caught_by("respects_its_cap", "plan: the cap is")
class NegativeCap(Sound):
    """Subtracts without looking."""

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return context.limit - 2, state


@caught_by("survives_certain_and_uniform_drafts", "rows.length of the state is NaN")
class NaNWhenCertain(Sound):
    """Divides entropy by entropy."""

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        return signals.entropy >= 0, state.put(length=state["length"] * (signals.entropy / signals.entropy))


@caught_by("survives_certain_and_uniform_drafts", "selected index k out of range")
class NeedsTwoTokens(Sound):
    """Takes for granted that there are two tokens."""

    signals: ClassVar[frozenset[str]] = frozenset({"probabilities"})

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        first, second = signals.probabilities.topk(2).values.unbind(1)
        return first - second > 0.1, state


@caught_by("survives_every_precision", "same dtype")
class NeedsFloat32(Sound):
    """Multiplies by weights of one dtype."""

    signals: ClassVar[frozenset[str]] = frozenset({"logits"})

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        weights = torch.ones(signals.logits.shape[1], device=position.device)
        return signals.logits @ weights > 0, state


@caught_by("survives_the_longest_blocks", "out of range")
class TableTooShort(Sound):
    """Has a number for each of the first 32 positions, and no cap."""

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return context.limit, state

    def extend(self, state: State, position: Tensor, signals: Signals, drawn: Drawn) -> tuple[Tensor, State]:
        return torch.ones(32, device=position.device).take(position) > 0, state


@caught_by("survives_the_end_of_all_sequences", "shared.rounds")
class CountsEmptyRounds(Sound):
    """Counts rounds in which no one took part."""

    def init(self, batch_size: int, device: torch.device) -> State:
        return super().init(batch_size, device) | State.learned(batch_size, device, shared=True, rounds=0)

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        return super().learn(state, outcome).put(rounds=state["rounds"] + 1)


@caught_by("learns_from_any_round", "rows.length of the state is not finite")
class DividesByNothing(Sound):
    """Takes the acceptance rate of a round that drafted nothing."""

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        return state.put(length=state["length"] * (1 + outcome.accepted / outcome.drafted))


@caught_by("learns_nothing_from_finished_sequences", "shared.length")
class LearnsFromTheFinished(SoundAndShared):
    """Takes the mean over all rows, whether they took part or not."""

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        return state.put(length=outcome.accepted.double().mean().view(1))


@caught_by("learns_nothing_from_values_without_meaning", "rows.length")
class LearnsFromPadding(Sound):
    """Adds up the entropy of all positions, drafted or not."""

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        total = sum((signals.entropy for signals in outcome.signals), state["length"])
        return state.put(length=total)


@dataclass(frozen=True)
class Diary(State):
    """A state with a number that is no tensor."""

    rounds: int = 0


@caught_by("state_survives_a_file", "'State' object has no attribute 'rounds'")
class KeepsADiary(Sound):
    """Remembers in a number that no file keeps."""

    def init(self, batch_size: int, device: torch.device) -> State:
        return Diary(rows=super().init(batch_size, device).rows)

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        return replace(state, rounds=state.rounds + 1)  # type: ignore[call-arg, attr-defined]


@caught_by("preserves_the_output_distribution", "changes the output")
class RewritesTheDraft(Sound):
    """Goes looking for the engine's own q, and claims that the token had been less probable than it was."""

    def extend(self, state: State, position: Tensor, signals: Signals, drawn: Drawn) -> tuple[Tensor, State]:
        engine = sys._getframe(2).f_locals.get("decoding")
        if engine is not None:
            engine._block[-1].scatter_(1, drawn.token.unsqueeze(1), 1e-6)
        return super().extend(state, position, signals, drawn)


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_caught(name: str) -> None:
    check, words, cls = MUTANTS[name]
    result = CHECKS[check].run(cls())
    assert result.verdict == Verdict.FAILED
    assert words in result.reason


@pytest.mark.parametrize("cls", [Sound, SoundAndShared], ids=lambda cls: cls.kind)
@pytest.mark.parametrize("check", POLICY_CHECKS, ids=lambda check: check.name)
def test_unbroken_policy_passes(check: Check, cls: type[StoppingPolicy]) -> None:
    result = check.run(cls())
    shared_by_intent = check.name == "shares_only_what_it_declares" and cls is SoundAndShared
    assert result.verdict == (Verdict.SKIPPED if shared_by_intent else Verdict.PASSED), result


def test_every_check_has_a_mutant() -> None:
    assert {check for check, *_ in MUTANTS.values()} == CHECKS.keys()
