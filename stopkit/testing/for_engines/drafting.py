"""Policies that show what an engine does with decisions: they draft by rote, keep a record, or fail."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from hypothesis import strategies as st
from pydantic import Field, PrivateAttr
from torch import Tensor

from stopkit.policy import TOLD, Drawn, RoundContext, RoundOutcome, StoppingPolicy
from stopkit.signals import SIGNALS, Signals
from stopkit.state import State
from stopkit.testing.strategies import LONGEST

CAPS = (2, LONGEST, 3, 1, 0)


class Blocks(StoppingPolicy):
    """Blocks by rote; which cap comes next depends on what was accepted, so that rows fall out of step."""

    kind: ClassVar[str] = "blocks"

    caps: tuple[int, ...] = Field(default=(3,), min_length=1, description="caps of the rounds, over and over")
    admitted: int | None = Field(default=None, ge=0, description="positions admitted; unset, all that are proposed")
    last: int | None = Field(default=None, ge=0, description="a token after which nothing more is drafted")

    def init(self, batch_size: int, device: torch.device) -> State:
        return State(rows={"turn": torch.zeros(batch_size, dtype=torch.long, device=device)})

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        caps = torch.tensor(self.caps, device=context.limit.device)
        return caps[state.rows["turn"] % len(caps)], state

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        return position < (LONGEST if self.admitted is None else self.admitted), state

    def extend(self, state: State, position: Tensor, signals: Signals, drawn: Drawn) -> tuple[Tensor, State]:
        return drawn.token != (-1 if self.last is None else self.last), state

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        return State(rows={"turn": state.rows["turn"] + 1 + outcome.accepted})


@dataclass
class Round:
    """What one round asked of the policy, and what the policy answered; tensors over the rows."""

    state: State
    context: RoundContext
    cap: Tensor
    positions: list[Tensor] = field(default_factory=list)
    signals: list[Signals] = field(default_factory=list)
    admitted: list[Tensor] = field(default_factory=list)
    drawn: list[Drawn] = field(default_factory=list)
    extended: list[Tensor] = field(default_factory=list)
    outcome: RoundOutcome = field(init=False)

    def drafted(self, row: int) -> int:
        """The length of the row's block if these decisions were obeyed and no other."""
        cap = min(int(self.cap[row]), int(self.context.limit[row]))
        for count in range(cap):
            if count >= len(self.admitted) or not self.admitted[count][row]:
                return count
            if count >= len(self.extended) or not self.extended[count][row]:
                return count + 1
        return cap


class Recorder(Blocks):
    """`Blocks`, asking for all that any engine can tell, with a record of the rounds."""

    kind: ClassVar[str] = "recorder"
    signals: ClassVar[frozenset[str]] = SIGNALS - {"hidden_state"}
    context: ClassVar[frozenset[str]] = TOLD

    _rounds: list[Round] = PrivateAttr(default_factory=list)

    @property
    def rounds(self) -> list[Round]:
        """What happened so far."""
        return self._rounds

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        cap, state = super().plan(state, context)
        self._rounds.append(Round(state, context, cap))
        return cap, state

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        admitted, state = super().admit(state, position, signals)
        self._rounds[-1].positions.append(position)
        self._rounds[-1].signals.append(signals)
        self._rounds[-1].admitted.append(admitted)
        return admitted, state

    def extend(self, state: State, position: Tensor, signals: Signals, drawn: Drawn) -> tuple[Tensor, State]:
        extended, state = super().extend(state, position, signals, drawn)
        self._rounds[-1].drawn.append(drawn)
        self._rounds[-1].extended.append(extended)
        return extended, state

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        self._rounds[-1].outcome = outcome
        return super().learn(state, outcome)


class Failing(Recorder):
    """Raises in one of its verbs, in one of its rounds."""

    kind: ClassVar[str] = "failing"

    verb: str = Field(default="plan", description="the verb that raises")
    round: int = Field(default=0, ge=0, description="the round in which it does, from 0")

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        decision = super().plan(state, context)
        self._perhaps_fail("plan")
        return decision

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        self._perhaps_fail("admit")
        return super().admit(state, position, signals)

    def extend(self, state: State, position: Tensor, signals: Signals, drawn: Drawn) -> tuple[Tensor, State]:
        self._perhaps_fail("extend")
        return super().extend(state, position, signals, drawn)

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        self._perhaps_fail("learn")
        return super().learn(state, outcome)

    def _perhaps_fail(self, verb: str) -> None:
        if (verb, len(self.rounds) - 1) == (self.verb, self.round):
            raise ZeroDivisionError("on purpose")


def blocks(vocabulary: int, kind: type[Blocks] = Blocks) -> st.SearchStrategy[Blocks]:
    """Any way of drafting by rote."""
    return st.builds(
        kind,
        caps=st.lists(st.sampled_from(CAPS), min_size=1, max_size=3).map(tuple),
        admitted=st.none() | st.integers(0, LONGEST),
        last=st.none() | st.integers(0, vocabulary - 1),
    )
