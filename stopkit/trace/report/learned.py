"""How what a policy has learned moves, round by round."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from pydantic import PrivateAttr
from torch import Tensor

from stopkit.costs import FixedCosts
from stopkit.policy import RoundOutcome, StoppingPolicy
from stopkit.state import State
from stopkit.trace.lanes import Lanes
from stopkit.trace.replay import generations
from stopkit.trace.trace import Trace

SEQUENCES = 8
"""The first sequences of a trace are watched."""
LARGEST = 8
"""Values of more numbers than this are left out, and so are those of nested policies."""


@dataclass(frozen=True)
class Movement:
    """One number that a policy has learned, after each round."""

    policy: str
    value: str
    lines: tuple[tuple[float, ...], ...]
    """By sequence; one line through all of them where they share it."""
    begins: tuple[int, ...]
    """Rounds at which a new sequence begins, of a line through all of them."""

    @property
    def counts(self) -> bool:
        """Whether no line falls while a sequence lasts, as what counts or sums up, or stays where it is."""
        return all(
            after >= before or at in self.begins
            for line in self.lines
            for at, (before, after) in enumerate(pairwise(line), start=1)
        )


class _Watched(Lanes):
    """Lanes that keep what their policy had learned after every round, and of which lanes that is news."""

    _seen: list[tuple[Tensor, Mapping[str, Tensor]]] = PrivateAttr(default_factory=list)
    _moved: set[str] = PrivateAttr(default_factory=set)

    @property
    def seen(self) -> list[tuple[Tensor, Mapping[str, Tensor]]]:
        """Round by round: active lanes, and what `learn` ever changes; the rest of a state are a round's notes."""
        return [(active, {name: rows[name] for name in rows if name in self._moved}) for active, rows in self._seen]

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        learned = super().learn(state, outcome)
        self._seen.append((outcome.context.active, learned.rows))
        self._moved |= {name for name, value in learned.rows.items() if not torch.equal(value, state.rows[name])}
        return learned


@torch.inference_mode()
def movements(trace: Trace, name: str, policy: StoppingPolicy, cost: FixedCosts) -> list[Movement]:
    """Every number of the policy's own state that rises and falls, over the first sequences."""
    first = trace.select(range(min(SEQUENCES, len(trace.sequences))))
    lanes = _Watched(policy=policy)
    ends = [len(lanes.seen) for _ in generations(first, lanes, [cost])]
    begins = (0, *ends[:-1]) if policy.carries_over else ()
    learned = [Movement(name, value, lines, begins) for value, lines in _lines(lanes.seen).items()]
    return [movement for movement in learned if not movement.counts]


def _lines(seen: Sequence[tuple[Tensor, Mapping[str, Tensor]]]) -> dict[str, tuple[tuple[float, ...], ...]]:
    lines: dict[str, list[list[float]]] = {}
    for active, values in seen:
        for place, value in values.items():
            flat = value.flatten(1)
            if place.startswith("parts") or flat.shape[1] > LARGEST or not flat.is_floating_point():
                continue
            for number, column in enumerate(flat.unbind(1)):
                name = _told(place) + (f" {number + 1}" if flat.shape[1] > 1 else "")
                each = lines.setdefault(name, [[] for _ in active])
                for line, counts, now in zip(each, active.tolist(), column.tolist(), strict=True):
                    if counts:
                        line.append(now)
    return {name: tuple(map(tuple, each)) for name, each in lines.items()}


def _told(place: str) -> str:
    """A place in a state, such as `rows.acceptance_rate`, for people."""
    return place.rpartition(".")[2].replace("_", " ")


def learns(policy: StoppingPolicy) -> bool:
    """Whether a policy remembers anything from round to round."""
    return type(policy).learn is not StoppingPolicy.learn
