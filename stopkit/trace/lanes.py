"""`Lanes`: one policy at work in many engines at once, each with a batch of one and a state and costs of its own.

Rows of a batch may share what a policy learns. Lanes never do: what happens in a lane is what would happen in an engine
that decodes one sequence at a time. Every verb is vectorised over the lanes (`torch.vmap`); a policy whose verbs cannot
be, because they wait for the device, is asked lane by lane.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from stopkit.costs import Costs
from stopkit.policy import Drawn, RoundContext, RoundOutcome, Signals, StoppingPolicy
from stopkit.state import State

Tree = Any
"""Tensors in tuples, lists and dicts; the first dimension of each is the lanes."""


class Lanes(StoppingPolicy):
    """`policy` for rows that are engines of their own: their states are rows, whatever the policy shares.

    Costs and seconds that it is given are per row, [L].
    """

    kind: ClassVar[str] = "lanes"

    policy: StoppingPolicy

    @property
    def required_signals(self) -> frozenset[str]:
        return self.policy.required_signals

    @property
    def couples_rows(self) -> bool:
        return False

    def init(self, batch_size: int, device: torch.device) -> State:
        one = self.policy.init(1, device).flat()
        return State(rows={name: value.expand(batch_size, *value.shape) for name, value in one.items()})

    def outlived(self, state: State) -> State:
        """The state with which the next sequence of every lane begins: it keeps what its sequences share."""
        fresh = self.init(len(next(iter(state.rows.values()))), torch.device("cpu")) if state.rows else state
        kept = {name: value for name, value in state.rows.items() if ".shared." in f".{name}"}
        return State(rows={**fresh.rows, **kept})

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        def verb(inner: State, lane: Tree) -> tuple[Tensor, State]:
            return self.policy.plan(inner, _context(lane))

        return self._decide(verb, state, _lanes_of(context))

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        def verb(inner: State, lane: Tree) -> tuple[Tensor, State]:
            return self.policy.admit(inner, lane[0], Signals(**lane[1]))

        return self._decide(verb, state, (_rows(position), _rows(vars(signals))))

    def extend(self, state: State, position: Tensor, signals: Signals, drawn: Drawn) -> tuple[Tensor, State]:
        def verb(inner: State, lane: Tree) -> tuple[Tensor, State]:
            return self.policy.extend(inner, lane[0], Signals(**lane[1]), Drawn(*lane[2]))

        lanes = (_rows(position), _rows(vars(signals)), _rows((drawn.token, drawn.probability)))
        return self._decide(verb, state, lanes)

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        def verb(inner: State, lane: Tree) -> tuple[Tensor, State]:
            context, (drafted, accepted), seconds, signals, drawn = lane
            whole = RoundOutcome(
                context=_context(context),
                drafted=drafted,
                accepted=accepted,
                seconds=seconds,
                signals=[Signals(**values) for values in signals],
                drawn=[Drawn(*values) for values in drawn],
            )
            return drafted, self.policy.learn(inner, whole)

        lanes = (
            _lanes_of(outcome.context),
            _rows((outcome.drafted, outcome.accepted)),
            outcome.seconds,
            _rows([vars(signals) for signals in outcome.signals]),
            _rows([(drawn.token, drawn.probability) for drawn in outcome.drawn]),
        )
        return self._decide(verb, state, lanes)[1]

    def _decide(
        self, verb: Callable[[State, Tree], tuple[Tensor, State]], state: State, lanes: Tree
    ) -> tuple[Tensor, State]:
        like = self.policy.init(1, torch.device("cpu"))

        def one(values: Mapping[str, Tensor], lane: Tree) -> tuple[Tensor, Mapping[str, Tensor]]:
            decision, new = verb(like.filled(values), lane)
            return decision, new.flat()

        values = dict(state.rows)
        try:
            decision, new = torch.vmap(one)(values, lanes)
        except RuntimeError:
            decision, new = _one_by_one(one, values, lanes)
        return decision.squeeze(1), State(rows=new)


def _rows(tree: Tree) -> Tree:
    """Values over the rows [L, ...] as batches of one [L, 1, ...]."""
    return torch.utils._pytree.tree_map(lambda value: value.unsqueeze(1), tree)


def _lanes_of(context: RoundContext) -> Tree:
    costs = (context.costs.draft_step, context.costs.verify, context.costs.verify_token)
    return _rows((context.active, context.limit)), costs


def _context(lane: Tree) -> RoundContext:
    (active, limit), costs = lane
    return RoundContext(active, limit, Costs(*costs), torch.ones((), dtype=torch.long, device=limit.device))


def _one_by_one(one: Callable[[Tree, Tree], Tree], values: Tree, lanes: Tree) -> Tree:
    tree = torch.utils._pytree
    leaves, layout = tree.tree_flatten((values, lanes))
    made = [one(*tree.tree_unflatten([leaf[lane] for leaf in leaves], layout)) for lane in range(len(leaves[0]))]
    return tree.tree_map(lambda *parts: torch.stack(parts), *made)
