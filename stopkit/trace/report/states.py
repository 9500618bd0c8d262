"""Section: how what policies have learned moves."""

import statistics

from stopkit.trace.report.html import Cell, behind, count, exact, panels, section, table
from stopkit.trace.report.learned import SEQUENCES, Movement
from stopkit.trace.report.study import Study
from stopkit.trace.report.svg import Plot, number, ticks

FEWEST = 3
"""A median needs at least so many sequences."""
MOST_POINTS = 400
"""Longer lines are thinned out."""


def states(study: Study, movements: list[Movement]) -> str:
    """The section."""
    if not movements:
        return section("learning", "What is learned", "No policy of this report learns anything that rises and falls.")
    cost = study.costs[study.reference]
    watched = min(SEQUENCES, len(study.trace.sequences))
    lead = (
        f"Values that policies have learned, after every round of the first {watched} sequences, at draft cost "
        f"{number(cost.draft_cost, 3)}. Where every sequence learns for itself, thin lines are sequences "
        "and the thick one is their median; where they share it, the line goes on from sequence to sequence."
    )
    pictures = [(f"{one.policy} · {one.value}", _note(one), _picture(one)) for one in movements]
    return section("learning", "What is learned", lead, panels(pictures), behind(_table(movements)))


def _note(one: Movement) -> str:
    ends = [line[-1] for line in one.lines if line]
    how = "shared" if one.begins else f"{len(one.lines)} sequences"
    return f"begins near {number(one.lines[0][0], 3)} · ends near {number(statistics.median(ends), 3)} · {how}"


def _median(one: Movement) -> list[tuple[float, float]]:
    longest = max(map(len, one.lines))
    columns = ([line[at] for line in one.lines if len(line) > at] for at in range(longest))
    return [(at + 1.0, statistics.median(column)) for at, column in enumerate(columns) if len(column) >= FEWEST]


def _thinned(line: tuple[float, ...]) -> list[tuple[float, float]]:
    step = -(-len(line) // MOST_POINTS)
    return [(at + 1.0, line[at]) for at in sorted({*range(0, len(line), step), len(line) - 1})] if line else []


def _picture(one: Movement) -> str:
    every = [value for line in one.lines for value in line]
    longest = max(map(len, one.lines))
    low, high = min(every), max(every)
    room = (high - low) * 0.06 or 0.5
    plot = Plot(300, 190, (1, longest), (low - room, high + room), (12, 12, 40, 46))
    digits = 3 if high - low < 0.1 else 2
    plot.axes(ticks(1, longest, 4), ticks(low, high, 4), "round", "", y_form=lambda value: number(value, digits))
    for begin in one.begins[1:]:
        at = plot.x(begin + 1)
        plot.add(
            f'<path class="seam" d="M{at:.1f} {plot.top:.1f}V{plot.bottom:.1f}"><title>next sequence</title></path>'
        )
    alone = len(one.lines) == 1
    for number_, line in enumerate(one.lines, start=1):
        points = _thinned(line)
        if points:
            plot.line(points, "learned" if alone else "faint", "" if alone else f"sequence {number_}")
    if not alone and (middle := _median(one)):
        plot.line(middle, "learned", "median")
    description = f"{_note(one)}. Between {number(low, 3)} and {number(high, 3)} over {longest} rounds."
    return plot.svg(f"{one.value} of {one.policy}", description)


def _table(movements: list[Movement]) -> str:
    rows: list[list[str | Cell]] = []
    for one in movements:
        every = [value for line in one.lines for value in line]
        ends = statistics.median([line[-1] for line in one.lines if line])
        values = (one.lines[0][0], min(every), max(every), ends)
        rounds = max(map(len, one.lines))
        rows.append([f"{one.policy} · {one.value}", count(rounds), *map(exact, values)])
    head = ["value", "rounds", "after the first round", "smallest", "largest", "at the end"]
    return table(head, rows, "What was learned; at the end, the median of the sequences")
