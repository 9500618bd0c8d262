"""The policy interface: four verbs, decided before a token is drawn, learned from after it is verified.

The interface is what makes speculative decoding with any policy lossless: `admit` decides whether a position enters
the block and is not shown the token; `extend` is shown the token and can only decide whether to pay for another draft
forward. No verb can take back a token that was drawn. See docs/explanation/lossless.md for the argument.

Shapes: B sequences (rows) decode side by side, V is the vocabulary. Decisions are tensors over the rows, on the
engine's device. A verb must not branch in Python on a tensor's value, read a clock or draw random numbers.
"""

from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from stopkit.costs import Costs


@dataclass(frozen=True)
class State:
    """What a policy remembers: a value that the engine passes in and gets back, never changed in place.

    `rows` belong to sequences: the first dimension is B. `shared` belong to all sequences of an engine together.
    `parts` are the states of policies nested in this one.
    """

    rows: Mapping[str, Tensor] = field(default_factory=dict)
    shared: Mapping[str, Tensor] = field(default_factory=dict)
    parts: "tuple[State, ...]" = ()

    def select(self, index: Tensor) -> Self:
        """The state of the rows at `index` (long, any length, repeats allowed); shared values stay."""
        return replace(
            self,
            rows={name: value[index] for name, value in self.rows.items()},
            parts=tuple(part.select(index) for part in self.parts),
        )

    def where(self, chosen: Tensor, other: Self) -> Self:
        """Per row: this state where `chosen` (bool [B]) holds, else `other`; shared values are this state's."""
        return replace(
            self,
            rows={
                name: torch.where(chosen.view(-1, *[1] * (value.ndim - 1)), value, other.rows[name])
                for name, value in self.rows.items()
            },
            parts=tuple(part.where(chosen, twin) for part, twin in zip(self.parts, other.parts, strict=True)),
        )

    def matches(self, other: "State") -> bool:
        """Whether this has the same values, rows and shapes as `other`; what they hold does not matter."""
        return _shapes(self) == _shapes(other)

    @property
    def couples_rows(self) -> bool:
        """Whether rows can influence each other through shared values."""
        return bool(self.shared) or any(part.couples_rows for part in self.parts)


def _shapes(state: State) -> tuple[Any, ...]:
    shapes = [{name: value.shape for name, value in scope.items()} for scope in (state.rows, state.shared)]
    return (*shapes, *map(_shapes, state.parts))


class Signals:
    """What is known of one draft position before its token is drawn. Only the signals asked for are there.

    entropy, max_probability and margin describe the distribution that is sampled (after processors, temperature and
    truncation); at temperature 0, where that is one-hot, the softmax of the processed logits.
    """

    entropy: Tensor
    """[B], nats."""
    max_probability: Tensor
    """[B], largest probability."""
    margin: Tensor
    """[B], largest minus second largest probability."""
    logits: Tensor
    """[B, V], as the draft model gave them."""
    hidden_state: Tensor
    """[B, D], the draft model's last hidden state."""

    def __init__(self, **values: Tensor) -> None:
        if unknown := values.keys() - SIGNALS:
            raise TypeError(f"unknown signals {sorted(unknown)}; there are {sorted(SIGNALS)}")
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Tensor:
        if name in SIGNALS:
            raise AttributeError(f"signal {name!r} was not computed; add it to the policy's `signals`")
        raise AttributeError(f"there is no signal {name!r}; there are {sorted(SIGNALS)}")


SIGNALS = frozenset(Signals.__annotations__)


@dataclass(frozen=True)
class Drawn:
    """The token that was drawn at a position. It is in the block for good."""

    token: Tensor
    """[B], long."""
    probability: Tensor
    """[B], q(token) in the distribution it was drawn from."""


@dataclass(frozen=True)
class RoundContext:
    """What is known before a round drafts anything."""

    active: Tensor
    """[B] bool, rows still generating."""
    limit: Tensor
    """[B] long, the most the engine can draft: what is left of max_new_tokens and of the context, 0 when finished."""
    costs: Costs
    """Seconds a draft step and a verification take on this engine."""


@dataclass(frozen=True)
class RoundOutcome:
    """What a round did and took, after verification."""

    context: RoundContext
    """What the round began with; rows that are not active in it took no part."""
    drafted: Tensor
    """[B] long, tokens in the block."""
    accepted: Tensor
    """[B] long, tokens of the block that the target kept, from its start."""
    seconds: Tensor
    """0-dimensional float64, the whole round."""
    signals: Sequence[Signals] = ()
    """What `admit` was shown, by position; rows that had stopped hold values without meaning."""
    drawn: Sequence[Drawn] = ()
    """What `extend` was shown, by position; rows that had stopped hold values without meaning."""


class StoppingPolicy(BaseModel, ABC):
    """Decides how much to draft. Fields are parameters; `kind` is the name in a config file; there is no other state.

    Override any of the verbs. The defaults draft as much as the engine allows and learn nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)

    kind: ClassVar[str]
    """Name in config files and on the command line, e.g. "adaedl"."""
    signals: ClassVar[frozenset[str]] = frozenset()
    """Names of the `Signals` fields that the verbs read; an engine computes no others."""
    formula: ClassVar[str] = ""
    """The rule in one line."""
    source: ClassVar[str] = ""
    """Where the rule comes from."""

    @property
    def required_signals(self) -> frozenset[str]:
        """The signals to compute for this policy; a policy that nests others adds theirs."""
        return self.signals

    def init(self, batch_size: int, device: torch.device) -> State:
        """State before the first round of `batch_size` new sequences."""
        return State()

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        """At most how many tokens to draft, [B] long; 0 does not speculate. Called before any draft forward."""
        return context.limit, state

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        """Whether the position enters the block, [B] bool. `position` [B] long counts from 0, undrawn."""
        return torch.ones_like(position, dtype=torch.bool), state

    def extend(self, state: State, position: Tensor, signals: Signals, drawn: Drawn) -> tuple[Tensor, State]:
        """Whether to pay for one more draft forward after this position, [B] bool. The token stays in the block."""
        return torch.ones_like(position, dtype=torch.bool), state

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        """State after a round. Rows that drafted nothing have drafted = accepted = 0 and usually teach nothing."""
        return state
