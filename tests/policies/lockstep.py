"""A policy beside its references, step for step: `agree` plays one `Run` on both and compares all that they say.

A run is drawn by Hypothesis. What happens in it (limits, signals, tokens, acceptances, rows that end) is read from a
tape of bytes, each time as many as the policy's decisions ask for.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st

from stopkit import Costs, DraftController, Drawn, RoundContext, Signals, State, StoppingPolicy, load_policy
from tests.policies.references import Block, Reading, Seconds, Seen, Told, learn_together, reading

VOCABULARY = 3


@dataclass(frozen=True)
class Run:
    """Rounds of some sequences side by side."""

    rows: int
    rounds: int
    longest: int
    dtype: torch.dtype
    costs: Seconds
    tape: bytes


@st.composite
def runs(draw: st.DrawFn, rows: int = 3, rounds: int = 6, longest: int = 6) -> Run:
    """Up to `rows` sequences, up to `rounds` rounds, limits up to `longest`."""
    count, turns = draw(st.integers(1, rows)), draw(st.integers(1, rounds))
    size = count * turns * 8 * longest
    return Run(
        rows=count,
        rounds=turns,
        longest=longest,
        dtype=draw(st.sampled_from([torch.float32, torch.float64])),
        costs=Seconds(*[draw(st.integers(low, 64)) / 64 for low in (0, 1, 0, 0, 0)]),
        tape=draw(st.binary(min_size=size, max_size=size)),
    )


class Tape:
    """Random choices, from bytes; zeros when they are used up."""

    def __init__(self, data: bytes) -> None:
        self._bytes = iter(data)

    def unit(self) -> float:
        """0 … 1."""
        return next(self._bytes, 0) / 255

    def below(self, count: int) -> int:
        return next(self._bytes, 0) % count

    def rarely(self) -> bool:
        """About once in 20."""
        return next(self._bytes, 0) >= 243

    def seen(self, dtype: torch.dtype) -> Seen:
        """Signals of a random distribution over the vocabulary, from one-hot to uniform, and other raw logits."""
        weights = [1.0, self.unit() ** 2]
        weights.append(weights[-1] * self.unit())
        weights = weights[(turn := self.below(VOCABULARY)) :] + weights[:turn]
        q = [weight / sum(weights) for weight in weights]
        first, second, *_ = sorted(q, reverse=True)
        entropy = sum(-p * math.log(p) for p in q if p > 0)
        logits = [5 * self.unit() for _ in q]
        state = [logit - 2.5 for logit in logits]

        def kept(*values: float) -> list[float]:
            return torch.tensor(values, dtype=dtype).tolist()  # type: ignore[no-any-return]

        vectors = {"probabilities": kept(*q), "logits": kept(*logits), "hidden_state": kept(*state)}
        return Seen(*kept(entropy, first, first - second), top_token=q.index(first), **vectors)

    def token(self, seen: Seen) -> int:
        """Drawn from q."""
        mark, below = self.unit() * sum(seen.probabilities) * 0.999, 0.0
        for token, probability in enumerate(seen.probabilities):
            below += probability
            if mark < below:
                return token
        return 0


def agree(block: dict[str, Any], run: Run) -> None:
    """Play `run` on the policy of `block` and on a reference for each row; all decisions and state agree."""
    policy, tape = load_policy(block), Tape(run.tape)
    rows = [reading(block) for _ in range(run.rows)]
    controller = DraftController(policy, run.rows)
    for number in range(run.rounds):
        _round(policy, controller, rows, run, tape, f"{policy!r}, round {number}")


def _round(
    policy: StoppingPolicy, controller: DraftController, rows: list[Reading], run: Run, tape: Tape, where: str
) -> None:
    marks = [tape.below(run.longest + 2) for _ in rows]
    active = [mark != run.longest + 1 for mark in marks]
    limits = [max(0, run.longest - mark) if on else 0 for mark, on in zip(marks, active, strict=True)]
    size = sum(active) + tape.below(4)
    costs = Costs(*[torch.tensor(value, dtype=torch.float64) for value in vars(run.costs).values()])
    ends = [tape.below(VOCABULARY + 1) - 1 for _ in rows]
    lengths = [tape.below(9) - 1 for _ in rows]
    entropies = [math.nan if tape.rarely() else tape.below(256) / 64 for _ in rows]
    known = (torch.tensor(value) for value in (active, limits, size, ends, lengths, entropies))
    context = RoundContext(next(known), next(known), costs, *known)
    if any(active):
        for row, *told in zip(rows, ends, lengths, entropies, strict=True):
            row.prepare(run.costs, size, Told(*told))

    caps = [row.plan(limit, run.costs, size) if on else 0 for row, limit, on in zip(rows, limits, active, strict=True)]
    said = torch.minimum(policy.plan(controller.state, context)[0], context.limit)
    assert said.tolist() == caps, f"{where}: caps"
    controller.plan(context)
    _same(controller.state, rows, f"{where}: plan")

    live = [cap > 0 for cap in caps]
    drafted = [0] * len(rows)
    seen: list[list[Seen]] = [[] for _ in rows]
    tokens: list[list[int]] = [[] for _ in rows]
    while any(live):
        assert controller.live.tolist() == live, where
        here = f"{where}, position {max(drafted)}"
        usable = [not tape.rarely() for _ in rows]
        for shown in seen:
            shown.append(tape.seen(run.dtype))
        newest = [shown[-1] for shown in seen]
        live = [
            on and ok and row.admit(position, signals)
            for row, on, ok, position, signals in zip(rows, live, usable, drafted, newest, strict=True)
        ]
        controller.admit(_signals(policy, newest, run.dtype), torch.tensor(usable))
        assert controller.live.tolist() == live, f"{here}: admit"
        _same(controller.state, rows, f"{here}: admit")
        if not any(live):
            break

        for chosen, signals in zip(tokens, newest, strict=True):
            chosen.append(tape.token(signals))
        more = [not tape.rarely() for _ in rows]
        last = [chosen[-1] for chosen in tokens]
        wanted = [
            row.extend(position, signals, token) if on else False
            for row, on, position, signals, token in zip(rows, live, drafted, newest, last, strict=True)
        ]
        drafted = [position + on for position, on in zip(drafted, live, strict=True)]
        live = [want and on and length < cap for want, on, length, cap in zip(wanted, more, drafted, caps, strict=True)]
        q = [signals.probabilities[token] for signals, token in zip(newest, last, strict=True)]
        controller.extend(Drawn(torch.tensor(last), torch.tensor(q, dtype=run.dtype)), torch.tensor(more))
        assert controller.live.tolist() == live, f"{here}: extend"
        _same(controller.state, rows, f"{here}: extend")

    accepted = [min(count, tape.below(count + 2)) for count in drafted]
    seconds = (1 + tape.below(256)) / 64
    blocks = [
        Block(*counts, seconds, run.costs, *shown) if on else None
        for on, counts, shown in zip(
            active, zip(drafted, accepted, strict=True), zip(seen, tokens, strict=True), strict=True
        )
    ]
    learn_together(rows, blocks)
    controller.learn(torch.tensor(accepted), seconds)
    _same(controller.state, rows, f"{where}: learn")


def _signals(policy: StoppingPolicy, rows: list[Seen], dtype: torch.dtype) -> Signals:
    """Only what the policy says that it reads."""
    values = {name: [getattr(row, name) for row in rows] for name in policy.required_signals}
    return Signals(
        **{
            name: torch.tensor(value, dtype=torch.long if name == "top_token" else dtype)
            for name, value in values.items()
        }
    )


def _same(state: State, rows: list[Reading], where: str) -> None:
    """Every value of the state is the attribute of that name of the references."""
    for name, value in state.rows.items():
        _close(value.tolist(), [getattr(row, name) for row in rows], f"{where}: {name}")
    for name, value in state.shared.items():
        _close(value.tolist(), getattr(rows[0], name), f"{where}: shared {name}")
    for index, part in enumerate(state.parts):
        _same(part, [row.members[index] for row in rows], f"{where}: member {index}")


def _close(found: Any, expected: Any, where: str) -> None:
    if found == expected:
        return
    pairs = zip(_flat(found), _flat(expected), strict=True)
    assert all(math.isclose(*pair, rel_tol=1e-9, abs_tol=1e-9) for pair in pairs), f"{where}: {expected}"


def _flat(value: Any) -> list[float]:
    return [one for inner in value for one in _flat(inner)] if isinstance(value, list) else [value]
