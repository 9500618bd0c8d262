"""What a policy itself believes of the tokens that are drawn for it, with the state that it then has."""

from typing import Any, Protocol, runtime_checkable

import torch
from pydantic import PrivateAttr
from torch import Tensor

from stopkit.costs import FixedCosts
from stopkit.decoding import Commitment
from stopkit.policy import Drawn, StoppingPolicy
from stopkit.signals import Signals
from stopkit.state import State
from stopkit.trace.lanes import Lanes
from stopkit.trace.replay import ReplayDecoding, generations
from stopkit.trace.trace import Trace


@runtime_checkable
class Estimating(Protocol):
    """A policy with this method has its estimates in the report, beside what was accepted."""

    def estimate(self, state: State, position: Tensor, signals: Signals, drawn: Drawn) -> Tensor:
        """Acceptance probability of the drawn token [B], as the policy sees it when `extend` is asked; tensors only."""
        ...


class _Asked(Lanes):
    """Lanes that keep their policy's estimate of every token."""

    _estimates: list[Tensor] = PrivateAttr(default_factory=list)

    @property
    def estimates(self) -> list[Tensor]:
        """One [L] for every time that tokens were drawn."""
        return self._estimates

    def extend(self, state: State, position: Tensor, signals: Signals, drawn: Drawn) -> tuple[Tensor, State]:
        names = list(vars(signals))

        def estimate(values: dict[str, Tensor], place: Tensor, *columns: Tensor) -> Tensor:
            assert isinstance(self.policy, Estimating)
            seen = Signals(**dict(zip(names, columns[2:], strict=True)))
            return self.policy.estimate(self._form.filled(values), place, seen, Drawn(*columns[:2]))

        columns = (position, drawn.token, drawn.probability, *vars(signals).values())
        shown = [column.unsqueeze(1) for column in columns]
        self._estimates.append(torch.vmap(estimate)(dict(state.rows), *shown).squeeze(1))
        return super().extend(state, position, signals, drawn)


class _Noting(ReplayDecoding):
    """Notes which start and position every row is at when a token is drawn, and which rows are live."""

    def __init__(self, *asked: Any) -> None:
        super().__init__(*asked)
        self.places: list[tuple[Tensor, Tensor, Tensor]] = []

    def commit(self, live: Tensor, drafted: Tensor) -> Commitment:
        self.places.append((self._start, drafted, live))
        return super().commit(live, drafted)


@torch.inference_mode()
def estimates(trace: Trace, policy: StoppingPolicy, cost: FixedCosts) -> tuple[Tensor, Tensor, Tensor]:
    """Three [N]: what the policy estimated in a replay of the trace, and at which start and position.

    Only tokens with everything before them accepted are there.
    """
    lanes, places = _Asked(policy=policy), list[tuple[Tensor, Tensor, Tensor]]()
    for _, generation in generations(trace, lanes, [cost], _Noting):
        assert isinstance(generation.decoding, _Noting)
        places += generation.decoding.places
    columns: list[list[Tensor]] = [[], [], []]
    for estimate, (start, position, live) in zip(lanes.estimates, places, strict=True):
        there = live & (position <= trace.run[start])
        for column, value in zip(columns, (estimate, start, position), strict=True):
            column.append(value[there])
    score, start, position = (torch.cat(column) if column else torch.zeros(0) for column in columns)
    return score.double(), start.long(), position.long()
