"""Policies that no one should write, all of them allowed: their output must still be the target's."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from stopkit import Drawn, RoundContext, RoundOutcome, ScalarPolicy, Signals, State, StoppingPolicy


def _coin(*numbers: Tensor | int) -> Tensor:
    """A fair coin for every row that depends on nothing but the numbers."""
    mixed = sum((factor * number for factor, number in zip((12345, 6789, 2221), numbers, strict=False)), start=97)
    return torch.as_tensor(mixed) * 48271 % 65537 % 2 == 0


class Erratic(StoppingPolicy):
    """Random decisions, fixed by seed, round and position."""

    kind: ClassVar[str] = "erratic"
    seed: int = Field(default=0, ge=0)

    def init(self, batch_size: int, device: torch.device) -> State:
        return State(rows={"round": torch.zeros(batch_size, dtype=torch.long, device=device)})

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return (state.rows["round"] * 7 + self.seed) % 5, state

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        return _coin(position, state.rows["round"], self.seed), state

    def extend(self, state: State, position: Tensor, signals: Signals, drawn: Drawn) -> tuple[Tensor, State]:
        return _coin(position, drawn.token, self.seed + 1), state

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        return State(rows={"round": state.rows["round"] + 1 + outcome.accepted})


class Periodic(ScalarPolicy):
    """Nothing, one, two, three tokens, and again; written for one sequence."""

    kind: ClassVar[str] = "periodic"

    def start(self) -> dict[str, float]:
        return {"round": 0}

    def cap(self, memory: dict[str, float], limit: int) -> int:
        return int(memory["round"]) % 4

    def update(self, memory: dict[str, float], drafted: int, accepted: int) -> None:
        memory["round"] += 1


class EntropyInverted(StoppingPolicy):
    """Drafts where the draft is least sure, and remembers how unsure it was."""

    kind: ClassVar[str] = "entropy_inverted"
    signals: ClassVar[frozenset[str]] = frozenset({"entropy", "logits", "margin", "hidden_state"})

    def init(self, batch_size: int, device: torch.device) -> State:
        return State(rows={"seen": torch.zeros(batch_size, dtype=torch.float64, device=device)})

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        seen = state.rows["seen"] + signals.entropy
        return (signals.entropy > 0.3) | (seen > 2) | (signals.margin < 0.1), State(rows={"seen": seen})


class TokenDependent(StoppingPolicy):
    """Decides by the drawn token wherever it may: in `extend`, and later by what it remembers of it."""

    kind: ClassVar[str] = "token_dependent"
    stop_at: int = Field(default=0, ge=0, le=2)

    def init(self, batch_size: int, device: torch.device) -> State:
        return State(rows={"last": torch.zeros(batch_size, dtype=torch.long, device=device)})

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return context.limit.where(state.rows["last"] != 1, 1), state

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        return (state.rows["last"] != self.stop_at) | (position == 0), state

    def extend(self, state: State, position: Tensor, signals: Signals, drawn: Drawn) -> tuple[Tensor, State]:
        return drawn.token != self.stop_at, State(rows={"last": drawn.token})


class Greedy(StoppingPolicy):
    """Asks for more than the engine allows, always."""

    kind: ClassVar[str] = "greedy"

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return torch.full_like(context.limit, 1000), state


class Gossip(StoppingPolicy):
    """All rows share one memory: what one sequence's rejection teaches changes what the others draft."""

    kind: ClassVar[str] = "gossip"

    def init(self, batch_size: int, device: torch.device) -> State:
        return State(shared={"cap": torch.ones((), dtype=torch.long, device=device)})

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return state.shared["cap"].expand_as(context.limit).clone(), state

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        return State(shared={"cap": (state.shared["cap"] + outcome.accepted.sum()) % 4})


ADVERSARIAL = [Erratic, Periodic, EntropyInverted, TokenDependent, Greedy, Gossip]
