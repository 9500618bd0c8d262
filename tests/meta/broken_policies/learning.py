"""Policies that break at the edges, learn from what means nothing, or change the output."""

import sys
from dataclasses import dataclass, replace
from types import FrameType
from typing import ClassVar

import torch
from torch import Tensor

from stopkit import Drawn, RoundContext, RoundOutcome, Signals, State
from tests.meta.broken_policies.sound import Sound, SoundAndShared, caught_by


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
        frame: FrameType | None = sys._getframe()
        while frame is not None and "decoding" not in frame.f_locals:
            frame = frame.f_back
        if frame is not None:
            frame.f_locals["decoding"]._block[-1].scatter_(1, drawn.token.unsqueeze(1), 1e-6)
        return super().extend(state, position, signals, drawn)
