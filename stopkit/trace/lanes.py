"""`Lanes`: one policy at work in many engines at once, each with a batch of one and a state and costs of its own.

Rows of a batch may share what a policy learns. Lanes never do: what happens in a lane is what would happen in an engine
that decodes one sequence at a time. Every verb is vectorised over the lanes; one that cannot be, because it waits for
the device, is asked lane by lane.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, ClassVar, Generic, TypeVar, overload

import torch
from pydantic import PrivateAttr
from torch import Tensor
from torch._C import _functorch as functorch
from torch._functorch import vmap

from stopkit.costs import Costs
from stopkit.policy import Drawn, RoundContext, RoundOutcome, StoppingPolicy
from stopkit.signals import Signals
from stopkit.state import State, Values

Lane = tuple[Tensor, ...]
"""What a verb is shown; of all lanes together, the first dimension of each is the lanes."""
Verb = Callable[[State, Lane], tuple[Tensor, State]]
Item = TypeVar("Item")


class Lanes(StoppingPolicy):
    """`policy` for rows that are engines of their own: their states are rows, whatever the policy shares.

    Costs and seconds that it is given are per row, [L].
    """

    kind: ClassVar[str] = "lanes"

    policy: StoppingPolicy

    _form: State = PrivateAttr()
    _one_by_one: set[str] = PrivateAttr(default_factory=set)

    def model_post_init(self, context: Any) -> None:
        self._form = self.policy.init(1, torch.device("cpu"))

    @property
    def required_signals(self) -> frozenset[str]:
        return self.policy.required_signals

    @property
    def required_context(self) -> frozenset[str]:
        return self.policy.required_context

    @property
    def carries_over(self) -> bool:
        return self.policy.carries_over

    @property
    def couples_rows(self) -> bool:
        return False

    def init(self, batch_size: int, device: torch.device) -> State:
        state = self.policy.init(1, device).flat()
        return State(rows={name: value.expand(batch_size, *value.shape) for name, value in state.items()})

    def outlived(self, state: State) -> State:
        """The state with which the next sequence of every lane begins: it keeps what its sequences share."""
        fresh = self._form.flat()
        kept = {
            name: value if ".shared." in f".{name}" else fresh[name].expand_as(value)
            for name, value in state.rows.items()
        }
        return State(rows=kept)

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        def verb(inner: State, lane: Lane) -> tuple[Tensor, State]:
            return self.policy.plan(inner, _context(*lane))

        return self._ask("plan", verb, state, _lanes_of(context)) or super().plan(state, context)

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        names = vars(signals)

        def verb(inner: State, lane: Lane) -> tuple[Tensor, State]:
            return self.policy.admit(inner, lane[0], Signals(**dict(zip(names, lane[1:], strict=True))))

        asked = self._ask("admit", verb, state, _rows(position, *names.values()))
        return asked or super().admit(state, position, signals)

    def extend(self, state: State, position: Tensor, signals: Signals, drawn: Drawn) -> tuple[Tensor, State]:
        names = vars(signals)

        def verb(inner: State, lane: Lane) -> tuple[Tensor, State]:
            shown = Signals(**dict(zip(names, lane[3:], strict=True)))
            return self.policy.extend(inner, lane[0], shown, Drawn(*lane[1:3]))

        lanes = _rows(position, drawn.token, drawn.probability, *names.values())
        return self._ask("extend", verb, state, lanes) or super().extend(state, position, signals, drawn)

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        names = sorted(self.required_signals)

        def signals_of(*seen: Tensor) -> Signals:
            return Signals(**dict(zip(names, seen, strict=True)))

        def verb(inner: State, lane: Lane) -> tuple[Tensor, State]:
            (drafted, accepted, seconds), columns = lane[known : known + 3], lane[known + 3 :]
            drawn, signals = columns[:drawn_columns], columns[drawn_columns:]
            whole = RoundOutcome(
                context=_context(*lane[:known]),
                drafted=drafted,
                accepted=accepted,
                seconds=seconds,
                signals=_Positions(len(outcome.signals), signals, signals_of),
                drawn=_Positions(len(outcome.drawn), drawn, Drawn),
            )
            return drafted, self.policy.learn(inner, whole)

        before = _lanes_of(outcome.context)
        known = len(before)
        drawn_tensors = _by_name(outcome.drawn, ("token", "probability"))
        drawn_columns = len(drawn_tensors)
        shown = _rows(outcome.drafted, outcome.accepted), (outcome.seconds,), _rows(*drawn_tensors)
        lanes = (*before, *chain(*shown), *_rows(*_by_name(outcome.signals, names)))
        asked = self._ask("learn", verb, state, lanes)
        return asked[1] if asked else state

    def _ask(self, name: str, verb: Verb, state: State, lanes: Lane) -> tuple[Tensor, State] | None:
        """What the verb called `name` answers in every lane; None if the policy has left it as it is."""
        if getattr(type(self.policy), name) is getattr(StoppingPolicy, name):
            return None

        def in_lane(values: Values, *lane: Tensor) -> tuple[Tensor, Values]:
            decision, new = verb(self._form.filled(values), lane)
            kept = {} if name in self._one_by_one else values
            return decision, {place: value for place, value in new.flat().items() if value is not kept.get(place)}

        if name not in self._one_by_one:
            try:
                return _answer(vectorised(in_lane, state.rows, lanes), state)
            except RuntimeError:
                self._one_by_one.add(name)
        return _answer(_one_by_one(in_lane, state.rows, lanes), state)


class _Positions(Sequence[Item], Generic[Item]):
    """What was seen at `count` positions, made from `columns` [1, count, ...] only when it is asked for."""

    def __init__(self, count: int, columns: Sequence[Tensor], make: Callable[..., Item]) -> None:
        self._count, self._columns, self._make = count, columns, make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> Item: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Item]: ...
    def __getitem__(self, at: int | slice) -> Item | Sequence[Item]:
        places = range(self._count)[at]
        if isinstance(places, range):
            return [self[place] for place in places]
        return self._make(*(column[:, places] for column in self._columns))

    def __iter__(self) -> Iterator[Item]:
        return (self[place] for place in range(self._count))


def _by_name(seen: Sequence[Any], names: Sequence[str]) -> list[Tensor]:
    """What was seen, [L, positions, ...] by name; nothing if there were no positions."""
    return [torch.stack([getattr(item, name) for item in seen], 1) for name in names] if seen else []


def _rows(*values: Tensor) -> Lane:
    """Values over the rows [L, ...] as batches of one [L, 1, ...]."""
    return tuple(value.unsqueeze(1) for value in values)


def _lanes_of(context: RoundContext) -> Lane:
    costs = context.costs
    seen = _rows(context.active, context.limit, context.last_token, context.length, context.entropy)
    return *seen, *vars(costs).values()


def _context(
    active: Tensor, limit: Tensor, last_token: Tensor, length: Tensor, entropy: Tensor, *costs: Tensor
) -> RoundContext:
    return RoundContext(active, limit, Costs(*costs), _ALONE, last_token, length, entropy)


_ALONE = torch.ones((), dtype=torch.long)


def _answer(answer: tuple[Tensor, Values], state: State) -> tuple[Tensor, State]:
    decision, values = answer
    return decision.squeeze(1), State(rows={**state.rows, **values}) if values else state


def vectorised(
    function: Callable[..., tuple[Tensor, Values]], named: Values, values: tuple[Tensor, ...]
) -> tuple[Tensor, Values]:
    """`function(named, *values)` for every entry of the first dimension [L] of all of them; results are [L, ...].

    It is `torch.vmap` without its overhead: 15 inputs cost that some 0.3 ms a call, more than most verbs take, for
    flattening nested inputs of any kind. Here they are a dict and a tuple of tensors, and what is left are the four
    calls that `torch.vmap` itself ends in. Raises RuntimeError, as it does, if `function` waits for the device or draws
    random numbers.
    """
    vmap.lazy_load_decompositions()  # type: ignore[attr-defined]
    count = len(values[0])
    level = functorch._vmap_increment_nesting(count, "error")
    try:
        batched = {name: functorch._add_batch_dim(value, 0, level) for name, value in named.items()}
        first, others = function(batched, *(functorch._add_batch_dim(value, 0, level) for value in values))
        return (
            functorch._remove_batch_dim(first, level, count, 0),
            {name: functorch._remove_batch_dim(value, level, count, 0) for name, value in others.items()},
        )
    finally:
        functorch._vmap_decrement_nesting()


def _one_by_one(function: Callable[..., tuple[Tensor, Values]], values: Values, lanes: Lane) -> tuple[Tensor, Values]:
    answers = [
        function({name: value[lane] for name, value in values.items()}, *(value[lane] for value in lanes))
        for lane in range(len(lanes[0]))
    ]
    decisions, states = zip(*answers, strict=True)
    return torch.stack(decisions), {name: torch.stack([lane[name] for lane in states]) for name in states[0]}
