"""`ScalarPolicy`: write a rule for one sequence in plain Python numbers; pay a host sync for it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from stopkit.policy import Drawn, RoundContext, RoundOutcome, StoppingPolicy
from stopkit.signals import Signals
from stopkit.state import State

Memory: TypeAlias = dict[str, float]


NUMBERS = frozenset({"entropy", "max_probability", "margin", "top_token"})
"""The signals that are one number a row."""


@dataclass(frozen=True)
class Position:
    """One draft position of one sequence. Signals that the policy did not declare are None."""

    index: int
    entropy: float | None = None
    max_probability: float | None = None
    margin: float | None = None
    top_token: int | None = None


class ScalarPolicy(StoppingPolicy):
    """Override `start`, `cap`, `enter`, `go_on` and `update`; `memory` is one sequence's dict, yours to change.

    Each call runs once per row on the host. Signals that are vectors (logits, hidden_state) need a StoppingPolicy.
    """

    def start(self) -> Memory:
        """Memory of a new sequence. Its keys must not change later."""
        return {}

    def cap(self, memory: Memory, limit: int) -> int:
        """At most how many tokens to draft this round."""
        return limit

    def enter(self, memory: Memory, position: Position) -> bool:
        """Whether the position enters the block; its token is not drawn yet."""
        return True

    def go_on(self, memory: Memory, position: Position, token: int, probability: float) -> bool:
        """Whether to pay for one more draft forward, now that the token is drawn."""
        return True

    def update(self, memory: Memory, drafted: int, accepted: int) -> None:
        """Learn from a round. Not called for rounds in which the sequence was finished."""

    def init(self, batch_size: int, device: torch.device) -> State:
        first = _pack([self.start()], device)
        return first.select(torch.zeros(batch_size, dtype=torch.long, device=device))

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        limits = context.limit.tolist()
        return self._each(state, torch.long, context.limit, lambda memory, row: self.cap(memory, limits[row]))

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        positions = self._positions(position, signals)
        return self._each(state, torch.bool, position, lambda memory, row: self.enter(memory, positions[row]))

    def extend(self, state: State, position: Tensor, signals: Signals, drawn: Drawn) -> tuple[Tensor, State]:
        positions = self._positions(position, signals)
        tokens, chances = drawn.token.tolist(), drawn.probability.tolist()
        return self._each(
            state,
            torch.bool,
            position,
            lambda memory, row: self.go_on(memory, positions[row], tokens[row], chances[row]),
        )

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        active, drafted, accepted = outcome.context.active.tolist(), outcome.drafted.tolist(), outcome.accepted.tolist()

        def update(memory: Memory, row: int) -> None:
            if active[row]:
                self.update(memory, drafted[row], accepted[row])

        return self._each(state, torch.bool, outcome.drafted, update)[1]

    def _each(
        self, state: State, dtype: torch.dtype, like: Tensor, verb: Callable[[Memory, int], Any]
    ) -> tuple[Tensor, State]:
        memories = _unpack(state, len(like))
        answers = [verb(memory, row) for row, memory in enumerate(memories)]
        decided = torch.tensor([answer or 0 for answer in answers], dtype=dtype, device=like.device)
        return decided, _pack(memories, like.device)

    def _positions(self, position: Tensor, signals: Signals) -> list[Position]:
        names = sorted(self.signals & NUMBERS)
        columns = [getattr(signals, name).tolist() for name in names]
        return [
            Position(index, **{name: column[row] for name, column in zip(names, columns, strict=True)})
            for row, index in enumerate(position.tolist())
        ]


def _unpack(state: State, batch_size: int) -> list[Memory]:
    columns = {name: value.tolist() for name, value in state.rows.items()}
    return [{name: column[row] for name, column in columns.items()} for row in range(batch_size)]


def _pack(memories: list[Memory], device: torch.device) -> State:
    names = memories[0] if memories else {}
    return State(
        rows={name: torch.tensor([m[name] for m in memories], dtype=torch.float64, device=device) for name in names}
    )
