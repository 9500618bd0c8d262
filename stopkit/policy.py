"""The policy interface: four verbs, decided before a token is drawn, learned from after it is verified.

The interface is what makes speculative decoding with any policy lossless: `admit` decides whether a position enters
the block and is not shown the token; `extend` is shown the token and can only decide whether to pay for another draft
forward. No verb can take back a token that was drawn. See docs/explanation/lossless.md for the argument.

Shapes: B sequences (rows) decode side by side, V is the vocabulary. Decisions are tensors over the rows, on the
engine's device. A verb must not branch in Python on a tensor's value, read a clock or draw random numbers.
"""

from abc import ABC
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Protocol

import torch
from pydantic import ConfigDict, Field
from torch import Tensor

from stopkit.costs import Costs
from stopkit.kinds import Kind
from stopkit.signals import Signals
from stopkit.state import State


@dataclass(frozen=True)
class Drawn:
    """The token that was drawn at a position. It is in the block for good."""

    token: Tensor
    """[B], long."""
    probability: Tensor
    """[B], q(token) in the distribution it was drawn from."""

    def confidence(self, signals: Signals) -> Tensor:
        """q(token) in the distribution that `signals` describe, [B]; needs `max_probability` of them.

        At temperature 0 a token is drawn with certainty, and signals describe the distribution that it is the most
        probable token of. Elsewhere both are one distribution.
        """
        return torch.minimum(self.probability, signals.max_probability)


TOLD = frozenset({"length", "entropy"})
"""Fields of `RoundContext` that are declared by whoever reads them: not every engine or recording can tell them."""


@dataclass(frozen=True, init=False)
class RoundContext:
    """What is known before a round drafts anything."""

    active: Tensor
    """[B] bool, rows still generating."""
    limit: Tensor
    """[B] long, the most the engine can draft: what is left of max_new_tokens and of the context, 0 when finished."""
    costs: Costs
    """Seconds a draft step and a verification take on this engine."""
    batch_size: Tensor
    """0-dimensional long, how many sequences generate side by side in the engine; the active rows if not given."""
    last_token: Tensor
    """[B] long, each sequence's last token; −1 where the engine does not tell."""
    length: Tensor
    """[B] long, each sequence's tokens so far, prompt included; −1 where the engine does not tell."""
    entropy: Tensor
    """[B], nats, the target's entropy where it gave the last token; NaN where unknown, as before the first round.

    It is that of the distribution that is sampled; at temperature 0 of the softmax of the processed logits.
    """

    def __init__(
        self,
        active: Tensor,
        limit: Tensor,
        costs: Costs,
        batch_size: Tensor | None = None,
        last_token: Tensor | None = None,
        length: Tensor | None = None,
        entropy: Tensor | None = None,
    ) -> None:
        vars(self).update(
            active=active,
            limit=limit,
            costs=costs,
            batch_size=active.sum() if batch_size is None else batch_size,
            last_token=torch.full_like(limit, -1) if last_token is None else last_token,
            length=torch.full_like(limit, -1) if length is None else length,
            entropy=torch.full_like(limit, torch.nan, dtype=torch.float32) if entropy is None else entropy,
        )


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
    """What `admit` was shown, by position; rows that had stopped hold values without meaning.

    How many there are says nothing: in a replay there can be more than any row of the batch was asked about.
    """
    drawn: Sequence[Drawn] = ()
    """What `extend` was shown, by position; likewise."""

    def judged(self, positions: int) -> tuple[Tensor, Tensor]:
        """Which of a block's first `positions` the target judged, and which it accepted, each [B, positions] bool.

        It judges up to the first token that it rejects; of those after it nothing is known.
        """
        position = torch.arange(positions, device=self.drafted.device)
        accepted = self.accepted.unsqueeze(1)
        return (position < self.drafted.unsqueeze(1)) & (position <= accepted), position < accepted


class StoppingPolicy(Kind, ABC):
    """Decides how much to draft. Fields are parameters; `kind` is the name in a config file; there is no other state.

    Override any of the verbs. The defaults draft as much as the engine allows and learn nothing.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    section: ClassVar[str] = "policy"
    signals: ClassVar[frozenset[str]] = frozenset()
    """Names of the `Signals` fields that the verbs read; an engine computes no others."""
    context: ClassVar[frozenset[str]] = frozenset()
    """Which of `length` and `entropy` of `RoundContext` the verbs read; others may be unknown."""
    formula: ClassVar[str] = ""
    """The rule in one line."""
    source: ClassVar[str] = ""
    """Where the rule comes from."""

    @property
    def required_signals(self) -> frozenset[str]:
        """The signals to compute for this policy; a policy that nests others adds theirs."""
        return self.signals

    @property
    def required_context(self) -> frozenset[str]:
        """What of a round's context has to be known for this policy, likewise."""
        return self.context

    @property
    def carries_over(self) -> bool:
        """Whether a sequence begins with what was learned in those before it."""
        return self.init(1, torch.device("cpu")).couples_rows

    @property
    def couples_rows(self) -> bool:
        """Whether what happens in one row can change how much another drafts: because they share what was learned."""
        return self.carries_over

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Only what differs from the defaults."""
        fields = type(self).model_fields
        return [(name, value) for name, value in super().__repr_args__() if value != fields[str(name)].default]

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


class Verbs(Protocol):
    """The verbs of a policy, in whatever form they are called."""

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]: ...
    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]: ...
    def extend(self, state: State, position: Tensor, signals: Signals, drawn: Drawn) -> tuple[Tensor, State]: ...
    def learn(self, state: State, outcome: RoundOutcome) -> State: ...


CarryOver = Annotated[
    bool,
    Field(
        description="whether all sequences of an engine share what is learned and later prompts go on with it; else it "
        "belongs to a sequence and every prompt starts afresh"
    ),
]
"""The field `carry_over` of a policy that learns; see `State.learned`."""
