"""`DraftController`: one policy at work, with its state, the counts and the costs, for any speculative loop.

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

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from stopkit.block import Block, WholeStep, admitted, decision, extended, kept
from stopkit.costs import CostModel, FixedCosts, RoundTime
from stopkit.errors import InputError, PolicyError, line_in
from stopkit.kinds import distribution_of
from stopkit.policy import Drawn, RoundContext, RoundOutcome, StoppingPolicy, Verbs
from stopkit.roster import Name, Roster
from stopkit.signals import Signals, compute
from stopkit.state import State
from stopkit.statistics import Phase, Statistics, Stopwatch

SPENT_BEFORE = {"admit": "draft", "extend": "other", "learn": "verify"}
"""What a loop that times nothing itself has been doing when it calls a verb."""


@dataclass
class _Round:
    """A round under way."""

    context: RoundContext
    active: Tensor
    signals: list[Signals] = field(default_factory=list)
    drawn: list[Drawn] = field(default_factory=list)


class DraftController:
    """Drives `policy` for `batch_size` sequences on `device`, continuing from `state` if one is given.

    `costs` is what drafting and verifying cost: fixed, or a model that goes on learning them. With a `stopwatch` the
    loop times its own phases on it; without one the controller times what lies between the verbs. `verbs` are those of
    the policy in another form, to be called instead. Raises PolicyError when the policy raises or when what it returns
    is not a decision; an InputError of the policy stays one.
    """

    def __init__(
        self,
        policy: StoppingPolicy,
        batch_size: int = 1,
        device: torch.device | str = "cpu",
        state: State | None = None,
        costs: CostModel | FixedCosts | None = None,
        stopwatch: Stopwatch | None = None,
        verbs: Verbs | None = None,
    ) -> None:
        self.policy = policy
        self.verbs = verbs or policy
        """What is called where the policy decides or learns."""
        self.device = torch.device(device)
        self.costs = costs if isinstance(costs, CostModel) else CostModel(costs)
        """What is known of the costs."""
        self._times_itself = stopwatch is None
        self.stopwatch = stopwatch or Stopwatch(self.device)
        self._current: _Round | None = None
        self._roster = Roster(self._fresh, range(batch_size), self.device, state)
        self._begin_anew()

    @property
    def ids(self) -> Sequence[Name]:
        """The sequence in each row; they are numbered from 0 unless `seat` named them."""
        return self._roster.ids

    @property
    def sequences(self) -> Sequence[Statistics]:
        """The exact counts of the sequence in each row."""
        return self._roster.counts

    @property
    def state(self) -> State:
        """What the policy remembers; its rows are those of the batch."""
        return self._roster.state

    @property
    def live(self) -> Tensor:
        """[B] bool, the rows that draft on."""
        return self.block.live

    @property
    def drafted(self) -> Tensor:
        """[B] long, the tokens in each row's block."""
        return self.block.drafted

    # A round.

    def context(self, limit: Tensor | int, active: Tensor | None = None, **told: Tensor | None) -> RoundContext:
        """What to `plan` a round on, at the costs that are known: `limit` for every row or [B] long.

        All rows are active if nothing else is said. `told` are other fields of RoundContext.
        """
        if active is None:
            active = torch.ones(len(self.ids), dtype=torch.bool, device=self.device)
        limits = torch.as_tensor(limit, device=self.device).expand(len(self.ids))
        return RoundContext(active, limits.where(active, 0), self.costs.costs(self.device), **told)

    def plan(self, context: RoundContext | int) -> bool:
        """Begin a round; whether any row drafts. An int is the limit of every row."""
        if isinstance(context, int):
            context = self.context(context)
        # The policy gets copies: writing into what it is shown cannot reach the engine.
        named = ("active", "limit", "last_token", "length", "entropy")
        shown = replace(context, **{name: getattr(context, name).clone() for name in named})
        self._alone = len(self.ids) == 1 and bool(context.active)
        with self._verb("plan"):
            cap, state = self.verbs.plan(self.state, shown)
            cap = torch.minimum(decision(cap, torch.long, context.limit), context.limit)
            self._keep(state, self._those(context.active))
        self._current = _Round(shown, context.active)
        return self._go_on(Block(cap > 0, torch.zeros_like(cap), cap))

    def admit(self, signals: Signals | Tensor, usable: Tensor | None = None) -> bool:
        """Decide on the next position of every live row; whether any row is to draw its token.

        `signals` may be the distribution q itself, [B, V]. Rows where `usable` (bool [B]) is false stop here.
        """
        if isinstance(signals, Tensor):
            q = signals
            signals = compute(self.policy.required_signals, lambda: q, q.log())
        now = self._round
        with self._verb("admit"):
            block, self._roster.state = admitted(self.verbs, self.state, self.block, signals, usable)
        now.signals.append(signals)
        return self._go_on(block)

    def extend(self, drawn: Drawn, more: Tensor | None = None) -> bool:
        """Record the drawn tokens of the live rows; whether any row drafts on. Rows where `more` is false do not."""
        now = self._round
        with self._verb("extend"):
            block, self._roster.state = extended(
                self.verbs, self.state, self.block, now.signals[-1], drawn, more, self._alone
            )
        now.drawn.append(drawn)
        return self._go_on(block)

    def take(self, step: WholeStep) -> bool:
        """Take over a draft step in which the verbs were called already; whether any row drafts on."""
        now = self._round
        now.signals.append(step.signals)
        if step.drew:
            now.drawn.append(step.drawn)
        self.block, self._roster.state = step.block, step.state
        return step.goes_on

    def learn(
        self,
        accepted: Tensor | int,
        seconds: RoundTime | Tensor | float | None = None,
        *,
        drafted: Tensor | None = None,
        took_part: Tensor | None = None,
    ) -> None:
        """End the round with each row's accepted tokens, [B] long.

        `seconds` is what the round took: a RoundTime, from which the costs are learned; or a number, from which they
        are not; unset, the controller's own measurement. `drafted` [B] says that no more than so many tokens of each
        block were verified; rows where `took_part` (bool [B]) is false were left out of the round: their blocks were
        lost, and nothing is counted or learned of them. Raises InputError for more tokens than were drafted.
        """
        now = self._round
        if isinstance(accepted, int):
            accepted = torch.full_like(self.drafted, accepted)
        active, context, verified = now.active, now.context, self.drafted if drafted is None else drafted
        if took_part is not None:
            active = active & took_part
            context, verified = replace(context, active=active), verified.where(active, 0)
        counts = torch.stack([active, self.drafted, verified, accepted]).tolist()
        if self._times_itself:  # stopkit's own engines have passed the kit
            _require_possible(*counts)
        took = self._seconds(seconds, steps=len(now.signals), longest=max(counts[2], default=0))
        outcome = RoundOutcome(
            context=context,
            drafted=verified,
            accepted=accepted,
            seconds=torch.as_tensor(took, dtype=torch.float64),
            signals=now.signals,
            drawn=now.drawn,
        )
        for sequence, judged, _, *block in zip(self.sequences, *counts, strict=True):
            if judged:
                sequence.count_block(*block)
        with self._verb("learn"):
            self._keep(self.verbs.learn(self.state, outcome), self._those(active) if took_part is None else active)
        self._current, self._reads_anew = None, False

    # Between rounds.

    def seat(self, ids: Sequence[Name]) -> None:
        """Let the rows be the sequences `ids`, in that order, each by a name of its own.

        A sequence that is not among them keeps its counts and state until it is seated again. One that was never seated
        begins with what the sequences share. Raises InputError if a name is there twice.
        """
        if not self._roster.seats(ids):
            self._roster.seat(ids)
            self._begin_anew()

    def forget(self, ids: Sequence[Name]) -> list[Statistics]:
        """The counts of the sequences `ids`, which have ended: nothing of them is kept, and their rows go.

        Raises InputError for a name that was never seated.
        """
        counts = self._roster.forget(ids)
        self._begin_anew()
        return counts

    def statistics_of(self, ids: Sequence[Name]) -> list[Statistics]:
        """The counts of any sequences, seated or not."""
        return self._roster.gathered(ids)[0]

    def state_of(self, ids: Sequence[Name]) -> State:
        """What the policy remembers of any sequences, seated or not, a row each; it can be gone on from later."""
        return self._roster.gathered(ids)[1]

    def select(self, index: Tensor) -> None:
        """Go on with the rows at `index` (long, any order), whose counts and state are kept; forget the others."""
        self._roster.select(index)
        self._begin_anew()

    def add(self, count: int) -> None:
        """Put `count` new sequences after the others; they begin with what is shared."""
        self._roster.add(count)
        self._begin_anew()

    # Inside.

    @property
    def _round(self) -> _Round:
        if self._current is None:
            raise InputError("controller: no round is under way; call plan first, and again after learn or new rows.")
        return self._current

    def _begin_anew(self) -> None:
        """Other sequences are in the rows: no round is under way, and the next one will have prompts to read."""
        self._current = None
        self._reads_anew = True
        nothing = torch.zeros(len(self.ids), dtype=torch.long, device=self.device)
        self.block = Block(nothing > 0, nothing, nothing)
        """What is being drafted."""

    def _fresh(self, count: int) -> State:
        with self._verb("init"):
            return self.policy.init(count, self.device)

    def _seconds(self, seconds: RoundTime | Tensor | float | None, steps: int, longest: int) -> Tensor | float:
        """What the round took, as far as the costs are not fixed; they are learned from what tells of the forwards."""
        if self._times_itself:
            self.stopwatch.lap(SPENT_BEFORE["learn"])
        if self._times_itself or seconds is None:
            spent = self.stopwatch.settle()
        if seconds is None:
            known = self._times_itself and not self._reads_anew
            seconds = RoundTime(
                sum(spent.values()), spent["draft"] if known else None, spent["verify"] if known else None
            )
        if not isinstance(seconds, RoundTime):
            return seconds
        self.costs.saw_round(seconds, steps, longest)
        return self.costs.round_seconds(steps, longest, seconds.whole)

    def _keep(self, state: State, rows: Tensor | None) -> None:
        self._roster.state = kept(state, self.state, rows)

    def _those(self, rows: Tensor) -> Tensor | None:
        """`rows`, or None if they are all: a sequence by itself takes part in all that it is asked."""
        return None if self._alone else rows

    def _go_on(self, block: Block) -> bool:
        self.block = block
        return bool(block.live.any())

    def _verb(self, name: str) -> "_Verb":
        if self._times_itself and name in ("admit", "extend"):
            self.stopwatch.lap(SPENT_BEFORE[name])
        return _Verb(self.policy, name, self.stopwatch)


class _Verb(Phase):
    """A verb at work: it is timed, and what goes wrong in it is a fault of the policy's."""

    __slots__ = ("_policy", "_verb")

    def __init__(self, policy: StoppingPolicy, verb: str, stopwatch: Stopwatch) -> None:
        super().__init__(stopwatch, "policy")
        self._policy, self._verb = policy, verb

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        super().__exit__(kind, error, trace)
        if isinstance(error, Exception) and not isinstance(error, InputError):  # that says what the user has to change
            place = _place(self._policy, self._verb, error)
            raise PolicyError(f"{place}: {type(error).__name__}: {error}") from error


def _require_possible(active: list[int], drafted: list[int], verified: list[int], accepted: list[int]) -> None:
    for row, judged in enumerate(active):
        if judged and not 0 <= accepted[row] <= verified[row] <= drafted[row]:
            raise InputError(
                f"learn: row {row} drafted {drafted[row]} tokens, so {verified[row]} cannot have been verified and "
                f"{accepted[row]} accepted."
            )


def _place(policy: StoppingPolicy, verb: str, error: Exception) -> str:
    """Whose fault an error is, and in which line if it came out of the policy's own file."""
    line = line_in(error, getattr(sys.modules.get(type(policy).__module__), "__file__", None))
    where = f", line {line}" if line else ""
    return f"policy {policy.kind!r} (from {distribution_of(type(policy))}), {verb}{where}"
