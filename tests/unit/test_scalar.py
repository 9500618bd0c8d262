"""A policy written for one sequence decides for each row as it would alone."""

import torch

from stopkit import Drawn, ScalarPolicy, Signals
from stopkit.scalar import Memory, Position
from tests.unit.test_threshold import context, outcome

CPU = torch.device("cpu")


class Patient(ScalarPolicy):
    """Drafts as far as it was right last time, while it is sure, until a token repeats."""

    kind = "patient"
    signals = frozenset({"max_probability"})

    def start(self) -> Memory:
        return {"reach": 2, "last": -1}

    def cap(self, memory: Memory, limit: int) -> int:
        return min(limit, int(memory["reach"]))

    def enter(self, memory: Memory, position: Position) -> bool:
        assert position.max_probability is not None
        assert position.entropy is None
        return position.max_probability > 0.5

    def go_on(self, memory: Memory, position: Position, token: int, probability: float) -> bool:
        repeated, memory["last"] = token == memory["last"], token
        return not repeated

    def update(self, memory: Memory, drafted: int, accepted: int) -> None:
        memory["reach"] = accepted + 1


def test_each_row_has_its_own_memory() -> None:
    policy = Patient()
    state = policy.init(3, CPU)
    cap, state = policy.plan(state, context(rows=3, limit=9))
    assert (cap.tolist(), cap.dtype) == ([2, 2, 2], torch.long)
    position = torch.zeros(3, dtype=torch.long)
    signals = Signals(max_probability=torch.tensor([0.9, 0.4, 0.6]))
    admitted, state = policy.admit(state, position, signals)
    assert admitted.tolist() == [True, False, True]
    drawn = Drawn(torch.tensor([5, 5, 6]), torch.ones(3))
    more, state = policy.extend(state, position, signals, drawn)
    assert more.tolist() == [True, True, True]
    before = state
    more, state = policy.extend(state, position, signals, Drawn(torch.tensor([5, 6, 6]), torch.ones(3)))
    assert more.tolist() == [False, True, False]
    assert before.rows["last"].tolist() == [5, 5, 6], "the state passed in is not changed"
    state = policy.learn(state, outcome([2, 0, 1], [2, 0, 0]))
    assert state.rows["reach"].tolist() == [3, 1, 1]
