"""Two sound policies to break, and the list of what was made of them."""

from collections.abc import Callable
from typing import ClassVar, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from stopkit import RoundContext, RoundOutcome, Signals, State, StoppingPolicy

MUTANTS: dict[str, tuple[str, str, type[StoppingPolicy]]] = {}
"""The check that must catch each, words of its message, and the broken policy."""
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
