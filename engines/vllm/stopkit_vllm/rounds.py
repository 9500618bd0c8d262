"""`Rounds`: a policy at work for the requests of a server, which come and go and are judged a step later.

It knows nothing of vLLM. A round begins with `plan`, goes on with `admit` and `extend`, and ends with `close`; the next
step tells what became of it with `learn`.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from stopkit import DraftController, Drawn, Signals, State, StoppingPolicy
from stopkit.costs import FixedCosts, RoundTime
from stopkit.statistics import Statistics, total


class Verdict(NamedTuple):
    """What a step did with a request."""

    verified: Sequence[int]
    """The draft tokens that the target looked at."""
    emitted: int
    """How many tokens it gave; none while it reads its prompt."""


@dataclass
class _Round:
    """A round that nothing is known of yet but what was drafted."""

    drafting: frozenset[str]
    """The requests that took part."""
    ordinary: bool
    """Whether none of them had a prompt to read."""
    began: float
    marks: list[float] = field(default_factory=list)
    """When the first draft step began, and when each had been decided on."""
    blocks: Mapping[str, Sequence[int]] = field(default_factory=dict)


class Rounds:
    """`policy` for requests by name, on `device`. `costs` are fixed, or measured; `state` is what it has learned."""

    def __init__(
        self,
        policy: StoppingPolicy,
        device: torch.device,
        costs: FixedCosts | None = None,
        state: State | None = None,
    ) -> None:
        self.policy = policy
        self._controller = DraftController(policy, batch_size=0, device=device, state=state, costs=costs)
        self._known: set[str] = set()
        self._ended = Statistics()
        self._open: _Round | None = None
        self._draft_forwards = self._target_forwards = 0
        self.lengths = self._controller.drafted
        """[B] long, the tokens in each row's block: what was drawn is in it, whatever happens afterwards."""

    # A round.

    def learn(self, verdicts: Mapping[str, Verdict]) -> None:
        """What a step did with its requests, after the round before it. Whoever is missing was left out of it.

        A block that is not the one that was drafted is somebody else's: near the context's end vLLM has zeros
        verified, and after a preemption placeholders.
        """
        past, self._open = self._open, None
        if past is None:
            return
        drafted, accepted, took_part = [], [], []
        for name in self._names:
            verified, emitted = verdicts.get(name, Verdict((), 0))
            ours = name in past.drafting and emitted > 0 and list(past.blocks[name][: len(verified)]) == list(verified)
            took_part.append(ours)
            drafted.append(len(verified) if ours else 0)  # the scheduler may have cut it
            accepted.append(min(emitted - 1, len(verified)) if ours else 0)
        ordinary = past.ordinary and past.drafting >= verdicts.keys()
        self._target_forwards += any(took_part)
        self._controller.learn(
            self._numbers(accepted),
            _time(past, ordinary and all(took_part)),
            drafted=self._numbers(drafted),
            took_part=self._flags(took_part),
        )

    def plan(
        self,
        names: Sequence[str],
        limits: Sequence[int | None],
        alive: Collection[str],
        **told: Tensor | None,
    ) -> bool:
        """Begin a round of the requests `names`, a row each; whether any of them drafts.

        `limits` are the most that is worth drafting, None for requests that take no part: they still read their
        prompt, or are done. What is known of requests that are not `alive` any more is counted, and let go. `told` are
        fields of RoundContext.
        """
        new = set(names) - self._known
        self._known |= new
        if ended := [name for name in self._known if name not in alive and name not in names]:
            self._controller.seat([name for name in self._names if name not in ended])
            self._ended = total([self._ended, *self._controller.forget(ended)])
            self._known -= set(ended)
        self._controller.seat(names)
        drafting = frozenset(name for name, limit in zip(names, limits, strict=True) if limit is not None)
        self._open = _Round(drafting, not new and len(drafting) == len(names), time.perf_counter())
        active = self._flags([limit is not None for limit in limits])
        context = self._controller.context(self._numbers([limit or 0 for limit in limits]), active, **told)
        going = self._controller.plan(context)
        self.lengths = self._controller.drafted
        return going

    def step(self) -> None:
        """A draft forward has ended: what follows decides on its position."""
        if self._open is not None and not self._open.marks:
            self._open.marks.append(time.perf_counter())

    def admit(self, signals: Signals, usable: Tensor) -> bool:
        """Whether any row's next position enters its block; see `DraftController.admit`."""
        going = self._controller.admit(signals, usable)
        self.lengths = self._controller.drafted + self._controller.live
        return self._marked(going)

    def extend(self, drawn: Drawn, more: Tensor) -> bool:
        """Whether any row drafts on; see `DraftController.extend`."""
        going = self._controller.extend(drawn, more)
        self._open_round.marks.pop()  # a step ends with the last that is decided of it
        return self._marked(going)

    def close(self, tokens: Sequence[Tensor]) -> list[list[int]]:
        """The blocks, a list of another length for each row, out of every step's `tokens` [B]."""
        drawn = torch.stack(list(tokens), 1).tolist() if tokens else [[]] * len(self._names)
        lengths = self.lengths.tolist()
        blocks = [row[:length] for row, length in zip(drawn, lengths, strict=True)]
        self._open_round.blocks = dict(zip(self._names, blocks, strict=True))
        self._draft_forwards += max(1, len(self._open_round.marks) - 1)
        return blocks

    # Between rounds.

    @property
    def statistics(self) -> Statistics:
        """What has been counted of all requests so far. A request's first token belongs to no round."""
        counted = total([self._ended, *self._controller.statistics_of(sorted(self._known))])
        counted.draft_forwards, counted.target_forwards = self._draft_forwards, self._target_forwards
        return counted

    @property
    def costs(self) -> dict[str, float]:
        """The costs as they are known now, seconds by name."""
        costs = self._controller.costs.costs(torch.device("cpu"))
        return {name: float(value) for name, value in vars(costs).items()}

    @property
    def learned(self) -> State | None:
        """What the policy has learned for requests to come; None if every request begins afresh."""
        return self._controller.state.outlived()

    # Inside.

    @property
    def _names(self) -> Sequence[str]:
        return [str(name) for name in self._controller.ids]

    @property
    def _open_round(self) -> _Round:
        assert self._open is not None, "plan begins a round"
        return self._open

    def _marked(self, going: bool) -> bool:
        self._open_round.marks.append(time.perf_counter())
        return going

    def _numbers(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self._controller.device)

    def _flags(self, values: Sequence[bool]) -> Tensor:
        return torch.tensor(values, dtype=torch.bool, device=self._controller.device)


def _time(past: _Round, ordinary: bool) -> RoundTime:
    """What a round took.

    vLLM's first draft forward catches up with the target and runs whether anything is drafted or not: it belongs to the
    verification, and the first draft step costs no more than its decision.
    """
    whole = time.perf_counter() - past.began
    if not ordinary:
        return RoundTime(whole, None, None)
    if len(past.marks) < 2:
        return RoundTime(whole, 0.0, whole)
    draft = past.marks[-1] - past.marks[0]
    return RoundTime(whole, draft, whole - draft, past.marks[1] - past.marks[0])
