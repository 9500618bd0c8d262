"""`DraftController`: one policy at work, with its state and the accounting, for any speculative loop.

    while generating:
        drafting = controller.plan(limit)
        while drafting:
            q = ...                                     # one draft forward, the distribution to sample from
            if drafting := controller.admit(q):
                token = ...                             # draw from q; the token is in the block for good
                drafting = controller.extend(Drawn(token, q[..., token]))
        accepted = ...                                  # one target forward over the block
        controller.learn(accepted)

stopkit's own loop (`stopkit.decode`) is these calls on an engine; a foreign engine makes them itself.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from stopkit.costs import CostModel, FixedCosts
from stopkit.errors import InputError, PolicyError
from stopkit.kinds import distribution_of
from stopkit.policy import Drawn, RoundContext, RoundOutcome, StoppingPolicy
from stopkit.signals import Signals, compute
from stopkit.state import State
from stopkit.statistics import Statistics, Stopwatch


class DraftController:
    """Drives `policy` for `batch_size` sequences on `device`, continuing from `state` if one is given.

    `sequences` holds the exact counts of each sequence, `state` what the policy remembers. Raises PolicyError when the
    policy raises or when what it returns is not a decision; an InputError of the policy stays one.
    """

    def __init__(
        self,
        policy: StoppingPolicy,
        batch_size: int = 1,
        device: torch.device | str = "cpu",
        state: State | None = None,
        costs: FixedCosts | None = None,
        stopwatch: Stopwatch | None = None,
    ) -> None:
        self.policy = policy
        self.device = torch.device(device)
        self.sequences = [Statistics() for _ in range(batch_size)]
        self.stopwatch = stopwatch or Stopwatch(self.device)
        self._costs = CostModel(costs)
        self._drafted = torch.zeros(batch_size, dtype=torch.long, device=self.device)
        self.live = self._drafted > 0
        with self._verb("init"):
            self.state = policy.init(batch_size, self.device)
        if state is not None:
            self.state = state.resumed(self.state)

    def plan(self, context: RoundContext | int) -> bool:
        """Begin a round; whether any row drafts. An int is the limit of every row of a loop that measures no costs."""
        context = self._context_of(context) if isinstance(context, int) else context
        # The policy gets copies: writing into what it is shown cannot reach the engine.
        copies = {name: getattr(context, name).clone() for name in ("active", "limit", "last_token")}
        self._context = replace(context, **copies)
        self._active = context.active
        self._alone = len(self.sequences) == 1 and bool(context.active)
        self._began = time.perf_counter()
        self._signals: list[Signals] = []
        self._drawn: list[Drawn] = []
        self._drafted = torch.zeros_like(context.limit)
        with self._verb("plan"):
            cap, state = self.policy.plan(self.state, self._context)
            self._cap = torch.minimum(self._decision(cap, torch.long), context.limit)
            self._keep(state, self._those(self._active))
        return self._go_on(self._cap > 0)

    def admit(self, signals: Signals | Tensor, usable: Tensor | None = None) -> bool:
        """Decide on the next position of every live row; whether any row is to draw its token.

        `signals` may be the distribution q itself, [B, V]. Rows where `usable` (bool [B]) is false stop here.
        """
        if isinstance(signals, Tensor):
            q = signals
            signals = compute(self.policy.required_signals, lambda: q, q.log())
        asked = self.live if usable is None else self.live & usable
        with self._verb("admit"):
            admitted, state = self.policy.admit(self.state, self._drafted.clone(), signals)
            admitted = self._decision(admitted, torch.bool)
            self._keep(state, asked)
        self._signals.append(signals)
        return self._go_on(asked & admitted)

    def extend(self, drawn: Drawn, more: Tensor | None = None) -> bool:
        """Record the drawn tokens of the live rows; whether any row drafts on. Rows where `more` is false do not."""
        with self._verb("extend"):
            extended, state = self.policy.extend(self.state, self._drafted.clone(), self._signals[-1], drawn)
            extended = self._decision(extended, torch.bool)
            self._keep(state, self._those(self.live))
        self._drawn.append(drawn)
        self._drafted = self._drafted + self.live
        live = self.live & extended & (self._drafted < self._cap)
        return self._go_on(live if more is None else live & more)

    def learn(self, accepted: Tensor | int, seconds: Tensor | float | None = None) -> None:
        """End the round with each row's accepted tokens, [B]; it took `seconds`, wall time since `plan` if unset."""
        if isinstance(accepted, int):
            accepted = torch.full_like(self._drafted, accepted)
        if seconds is None:
            seconds = time.perf_counter() - self._began
            self.stopwatch.settle()  # an engine that knows its seconds has settled its stopwatch itself
        counts = torch.stack([self._active.long(), self._drafted, accepted]).tolist()
        outcome = RoundOutcome(
            context=self._context,
            drafted=self._drafted,
            accepted=accepted,
            seconds=torch.as_tensor(seconds, dtype=torch.float64),
            signals=self._signals,
            drawn=self._drawn,
        )
        with self._verb("learn"):
            self._keep(self.policy.learn(self.state, outcome), self._those(self._active))
        for sequence, active, *block in zip(self.sequences, *counts, strict=True):
            if active:
                sequence.count_block(*block)

    def select(self, index: Tensor) -> None:
        """Between rounds: go on with the rows at `index` (long, any order), whose counts and state are kept."""
        self.sequences = [self.sequences[row] for row in index.tolist()]
        self.state = self.state.select(index)
        self._drafted = torch.zeros_like(index)

    def add(self, count: int) -> None:
        """Between rounds: `count` new sequences after the others; they begin with what is shared."""
        self.sequences += [Statistics() for _ in range(count)]
        self.state = self.state.append(self.policy.init(count, self.device))
        self._drafted = torch.zeros(len(self.sequences), dtype=torch.long, device=self.device)

    def _keep(self, state: State, rows: Tensor | None) -> None:
        """Take over the new state of `rows`, None for all; others were shown values without meaning and keep theirs."""
        if state is not self.state:
            self.state = state.instead_of(self.state) if rows is None else state.where(rows, self.state)

    def _those(self, rows: Tensor) -> Tensor | None:
        """`rows`, or None if they are all: a sequence by itself takes part in all that it is asked."""
        return None if self._alone else rows

    def _go_on(self, live: Tensor) -> bool:
        self.live = live
        return bool(live.any())

    def _context_of(self, limit: int) -> RoundContext:
        rows = len(self.sequences)
        return RoundContext(
            active=torch.ones(rows, dtype=torch.bool, device=self.device),
            limit=torch.full((rows,), limit, device=self.device),
            costs=self._costs.costs(self.device),
        )

    @contextmanager
    def _verb(self, name: str) -> Iterator[None]:
        try:
            with self.stopwatch.phase("policy"):
                yield
        except InputError:  # the policy knows what the user has to change
            raise
        except Exception as error:
            raise PolicyError(f"{_describe(self.policy)}, {name}: {type(error).__name__}: {error}") from error

    def _decision(self, value: Tensor, dtype: torch.dtype) -> Tensor:
        if not isinstance(value, Tensor):
            raise TypeError(f"returned {type(value).__name__} as its decision, not a tensor over the rows")
        if value.dtype != dtype or value.shape != self._drafted.shape or value.device != self._drafted.device:
            found, wanted = _kind(value, value.dtype), _kind(self._drafted, dtype)
            raise TypeError(f"returned a decision of {found}; it must be {wanted}")
        return value


def _kind(tensor: Tensor, dtype: torch.dtype) -> str:
    return f"{dtype} {list(tensor.shape)} on {tensor.device}"


def _describe(policy: StoppingPolicy) -> str:
    return f"policy {policy.kind!r} (from {distribution_of(type(policy))})"
