"""A policy at work on drawn rounds: through the controller that engines use, watched, or by tensors alone."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stopkit.controller import DraftController
from stopkit.policy import Drawn, RoundContext, RoundOutcome, StoppingPolicy
from stopkit.signals import Signals
from stopkit.state import State
from stopkit.testing.rounds import Rounds

VERBS = ("plan", "admit", "extend", "learn")

ROUNDING = 1024
"""Units of precision by which values may differ that were computed beside other rows, or in another order."""


class Turn(NamedTuple):
    """One sequence's part in a round."""

    asked: int
    """Positions that the policy was asked to admit."""
    drafted: int
    accepted: int


class Play:
    """A policy at work on the sequences `who` of some rounds, through the controller that engines use.

    What is shown of rows that have stopped, and so is without meaning, is `noise` if that is given.
    """

    def __init__(
        self,
        policy: StoppingPolicy,
        world: Rounds,
        who: Sequence[int] | None = None,
        noise: float | None = None,
        state: State | None = None,
    ) -> None:
        self.policy, self.world, self.noise = policy, world, noise
        self.who = torch.tensor(world.everyone if who is None else who, device=world.device)
        self.controller = DraftController(policy, len(self.who), world.device, state)
        self.turns: list[list[Turn]] = [[] for _ in self.who]

    @property
    def state(self) -> State:
        """What the policy remembers now."""
        return self.controller.state

    def through(self, first: int = 0, last: int | None = None) -> "Play":
        """Run the rounds from `first` up to `last`, which is left out."""
        for number in range(first, self.world.rounds if last is None else last):
            self._round(number)
        return self

    def select(self, rows: Sequence[int]) -> "Play":
        """Go on with these rows."""
        index = torch.tensor(rows, device=self.world.device)
        self.controller.select(index)
        self.who, self.turns = self.who[index], [list(self.turns[row]) for row in rows]
        return self

    def add(self, sequence: int) -> "Play":
        """Go on with one more, new sequence."""
        self.controller.add(1)
        self.who, self.turns = torch.cat([self.who, self.who.new_tensor([sequence])]), [*self.turns, []]
        return self

    def _round(self, number: int) -> None:
        world, controller, who = self.world, self.controller, self.who
        asked, drafted = torch.zeros_like(who), torch.zeros_like(who)
        drafting = controller.plan(world.context(who, number))
        while drafting:
            position = int(asked.max())
            live = controller.live & (world.at("end", who, number) >= position)
            signals = world.signals(self.policy, who, number, position)
            asked = asked + controller.live
            if drafting := controller.admit(self._blurred(signals, live), live):
                drafted = drafted + controller.live
                drawn = self._blurred(world.drawn(who, number, position), controller.live)
                drafting = controller.extend(drawn, world.at("end", who, number) > position)
        accepted = torch.minimum(drafted, world.at("kept", who, number))
        controller.learn(accepted, seconds=1.0 + number)
        for turns, turn in zip(self.turns, torch.stack([asked, drafted, accepted], 1).tolist(), strict=True):
            turns.append(Turn(*turn))

    def _blurred(self, shown: Any, live: Tensor) -> Any:
        """Signals or drawn tokens, without meaning where rows are not `live`; tokens stay in the vocabulary."""
        if self.noise is None:
            return shown
        return type(shown)(
            **{
                name: value.where(live, self.world.vocabulary - 1 - value)
                if name in ("token", "top_token")
                else value.where(live.view(-1, *[1] * (value.ndim - 1)), self.noise)
                for name, value in vars(shown).items()
            }
        )


def watched(policy: StoppingPolicy, around: Callable[..., Any]) -> StoppingPolicy:
    """The policy, with every call of a verb going through `around(verb, *arguments)`; `verb` is the bound method."""
    copy = policy.model_copy()
    copy.__dict__.update({verb: partial(around, getattr(policy, verb)) for verb in VERBS})
    return copy


def state_of(answer: Any) -> State:
    """The new state in what a verb answers, with a decision or alone."""
    return answer if isinstance(answer, State) else answer[1]


def straight_round(
    policy: StoppingPolicy,
    state: State,
    context: RoundContext,
    seen: Sequence[tuple[Signals, Drawn]],
    kept: Tensor,
    seconds: Tensor,
) -> tuple[list[Tensor], State]:
    """A round's decisions and the state after it, by tensor operations alone: every position is asked about.

    Draft lengths are the controller's; which rows keep their state is not.
    """
    cap, state = policy.plan(state, context)
    decisions, drafted, live = [cap], torch.zeros_like(context.limit), torch.minimum(cap, context.limit) > 0
    for signals, drawn in seen:
        admitted, state = policy.admit(state, drafted, signals)
        live = live & admitted
        extended, state = policy.extend(state, drafted, signals, drawn)
        drafted = drafted + live
        live = live & extended & (drafted < torch.minimum(cap, context.limit))
        decisions += [admitted, extended]
    outcome = RoundOutcome(
        context=context,
        drafted=drafted,
        accepted=torch.minimum(kept, drafted),
        seconds=seconds,
        signals=[signals for signals, _ in seen],
        drawn=[drawn for _, drawn in seen],
    )
    return decisions, policy.learn(state, outcome)


def tensors(tree: Any) -> Iterator[Tensor]:
    """Every tensor in an argument or an answer of a verb."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        for branch in tree.values():
            yield from tensors(branch)
    elif isinstance(tree, list | tuple):
        for branch in tree:
            yield from tensors(branch)
    elif hasattr(tree, "__dict__"):
        yield from tensors(vars(tree))


def identical(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors have the same dtype, shape and values, bit for bit; NaN equals NaN."""
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    return bool(((first == second) | ((first != first) & (second != second))).all())


def alike(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors are identical but for rounding, which depends on how many rows are computed side by side."""
    if first.dtype != second.dtype or first.shape != second.shape or not first.is_floating_point():
        return identical(first, second)
    rounding = ROUNDING * torch.finfo(first.dtype).eps
    return torch.allclose(first, second, rtol=rounding, atol=rounding, equal_nan=True)


def differences(first: State, second: State, same: Callable[[Tensor, Tensor], bool] = identical) -> list[str]:
    """Places at which two states differ."""
    here, there = first.flat(), second.flat()
    return [
        place for place in here | there if {place} - (here.keys() & there.keys()) or not same(here[place], there[place])
    ]


def assert_same(first: Play, second: Play, rows: Sequence[int], here: str, there: str) -> None:
    """Raise AssertionError unless row `i` of `one` fared, and is remembered, as row `rows[i]` of `other`."""
    for row, twin in enumerate(rows):
        for number, (turn, other_turn) in enumerate(zip(first.turns[row], second.turns[twin], strict=True)):
            assert turn == other_turn, (
                f"sequence {first.who[row]} drafts differently in round {number}.\n"
                f"{here}: {turn}\n{there}: {other_turn}"
            )
    memory = second.state.select(first.who.new_tensor(rows))
    for place in differences(first.state, memory, alike):
        mine, its = (state.flat().get(place) for state in (first.state, memory))
        raise AssertionError(f"{place} of the state differs.\n{here}: {mine}\n{there}: {its}")
