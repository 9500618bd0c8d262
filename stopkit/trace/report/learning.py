"""Section: how what policies have learned moves, round by round.

`movements` replays and watches, `learning_section` shows what came out."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from pydantic import PrivateAttr
from torch import Tensor

from stopkit.costs import FixedCosts
from stopkit.policy import RoundOutcome, StoppingPolicy
from stopkit.state import State
from stopkit.trace.lanes import Lanes
from stopkit.trace.replay import generations
from stopkit.trace.report.html import Cell, behind, count, exact, html_table, panels, section
from stopkit.trace.report.study import Study
from stopkit.trace.report.svg import Plot, short, ticks
from stopkit.trace.trace import Trace

SEQUENCES = 8
"""The first sequences of a trace are watched."""
LARGEST = 8
"""Values of more numbers than this are left out, and so are those of nested policies."""


@dataclass(frozen=True)
class Movement:
    """One number that a policy has learned, after each round."""

    policy: str
    value: str
    lines: tuple[tuple[float, ...], ...]
    """A line for each sequence, or one through all of them where they share the value."""
    begins: tuple[int, ...]
    """Rounds at which a new sequence begins, of a line through all of them."""

    @property
    def counts(self) -> bool:
        """Whether no line falls while a sequence lasts, as what counts or sums up, or stays where it is."""
        return all(
            after >= before or at in self.begins
            for line in self.lines
            for at, (before, after) in enumerate(pairwise(line), start=1)
        )


class _Watched(Lanes):
    """Lanes that keep what their policy had learned after every round, and of which lanes that is news."""

    _seen: list[tuple[Tensor, Mapping[str, Tensor]]] = PrivateAttr(default_factory=list)
    _moved: set[str] = PrivateAttr(default_factory=set)

    @property
    def seen(self) -> list[tuple[Tensor, Mapping[str, Tensor]]]:
        """Round by round: active lanes, and what `learn` ever changes; the rest of a state are a round's notes."""
        return [(active, {name: rows[name] for name in rows if name in self._moved}) for active, rows in self._seen]

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        learned = super().learn(state, outcome)
        self._seen.append((outcome.context.active, learned.rows))
        self._moved |= {name for name, value in learned.rows.items() if not torch.equal(value, state.rows[name])}
        return learned


@torch.inference_mode()
def movements(trace: Trace, name: str, policy: StoppingPolicy, cost: FixedCosts) -> list[Movement]:
    """Every number of the policy's own state that rises and falls, over the first sequences."""
    first = trace.select(range(min(SEQUENCES, len(trace.sequences))))
    lanes = _Watched(policy=policy)
    ends = [len(lanes.seen) for _ in generations(first, lanes, [cost])]
    begins = (0, *ends[:-1]) if policy.carries_over else ()
    learned = [Movement(name, value, lines, begins) for value, lines in _lines(lanes.seen).items()]
    return [movement for movement in learned if not movement.counts]


def _lines(seen: Sequence[tuple[Tensor, Mapping[str, Tensor]]]) -> dict[str, tuple[tuple[float, ...], ...]]:
    lines: dict[str, list[list[float]]] = {}
    for active, values in seen:
        for place, value in values.items():
            flat = value.flatten(1)
            if place.startswith("parts") or flat.shape[1] > LARGEST or not flat.is_floating_point():
                continue
            for number, column in enumerate(flat.unbind(1)):
                name = _told(place) + (f" {number + 1}" if flat.shape[1] > 1 else "")
                each = lines.setdefault(name, [[] for _ in active])
                for line, counts, now in zip(each, active.tolist(), column.tolist(), strict=True):
                    if counts:
                        line.append(now)
    return {name: tuple(map(tuple, each)) for name, each in lines.items()}


def _told(place: str) -> str:
    """A place in a state, such as `rows.acceptance_rate`, for people."""
    return place.rpartition(".")[2].replace("_", " ")


def learns(policy: StoppingPolicy) -> bool:
    """Whether a policy remembers anything from round to round."""
    return type(policy).learn is not StoppingPolicy.learn


FEWEST = 3
"""A median needs at least so many sequences."""
MOST_POINTS = 400
"""Longer lines are thinned out."""


def learning_section(study: Study, movements: list[Movement]) -> str:
    """Show how what was learned moves over the rounds, as HTML."""
    if not movements:
        return section("learning", "What is learned", "No policy of this report learns anything that rises and falls.")
    cost = study.costs[study.reference]
    watched = min(SEQUENCES, len(study.trace.sequences))
    lead = (
        f"Values that policies have learned, after every round of the first {watched} sequences, at draft cost "
        f"{short(cost.draft_cost, 3)}. Where every sequence learns for itself, thin lines are sequences "
        "and the thick one is their median; where they share it, the line goes on from sequence to sequence."
    )
    pictures = [
        (f"{movement.policy} · {movement.value}", _note(movement), _picture(movement)) for movement in movements
    ]
    return section("learning", "What is learned", lead, panels(pictures), behind(_table(movements)))


def _note(movement: Movement) -> str:
    ends = [line[-1] for line in movement.lines if line]
    how = "shared" if movement.begins else f"{len(movement.lines)} sequences"
    return f"begins near {short(movement.lines[0][0], 3)} · ends near {short(statistics.median(ends), 3)} · {how}"


def _median(movement: Movement) -> list[tuple[float, float]]:
    longest = max(map(len, movement.lines))
    columns = ([line[at] for line in movement.lines if len(line) > at] for at in range(longest))
    return [(at + 1.0, statistics.median(column)) for at, column in enumerate(columns) if len(column) >= FEWEST]


def _thinned(line: tuple[float, ...]) -> list[tuple[float, float]]:
    step = -(-len(line) // MOST_POINTS)
    return [(at + 1.0, line[at]) for at in sorted({*range(0, len(line), step), len(line) - 1})] if line else []


def _picture(movement: Movement) -> str:
    every = [value for line in movement.lines for value in line]
    longest = max(map(len, movement.lines))
    low, high = min(every), max(every)
    room = (high - low) * 0.06 or 0.5
    plot = Plot(300, 190, (1, longest), (low - room, high + room), (12, 12, 40, 46))
    digits = 3 if high - low < 0.1 else 2
    plot.axes(ticks(1, longest, 4), ticks(low, high, 4), "round", "", y_form=lambda value: short(value, digits))
    for begin in movement.begins[1:]:
        at = plot.x(begin + 1)
        plot.add(
            f'<path class="seam" d="M{at:.1f} {plot.top:.1f}V{plot.bottom:.1f}"><title>next sequence</title></path>'
        )
    alone = len(movement.lines) == 1
    for number_, line in enumerate(movement.lines, start=1):
        points = _thinned(line)
        if points:
            plot.line(points, "learned" if alone else "faint", "" if alone else f"sequence {number_}")
    if not alone and (middle := _median(movement)):
        plot.line(middle, "learned", "median")
    description = f"{_note(movement)}. Between {short(low, 3)} and {short(high, 3)} over {longest} rounds."
    return plot.svg(f"{movement.value} of {movement.policy}", description)


def _table(movements: list[Movement]) -> str:
    rows: list[list[str | Cell]] = []
    for movement in movements:
        every = [value for line in movement.lines for value in line]
        ends = statistics.median([line[-1] for line in movement.lines if line])
        values = (movement.lines[0][0], min(every), max(every), ends)
        rounds = max(map(len, movement.lines))
        rows.append([f"{movement.policy} · {movement.value}", count(rounds), *map(exact, values)])
    head = ["value", "rounds", "after the first round", "smallest", "largest", "at the end"]
    return html_table(head, rows, "What was learned; at the end, the median of the sequences")
