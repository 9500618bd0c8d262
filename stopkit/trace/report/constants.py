"""Section: what constant lengths would give, and which of them would have been best."""

from collections.abc import Sequence

from stopkit.costs import FixedCosts
from stopkit.trace.bounds import follow
from stopkit.trace.report.html import Cell, count, exact, figure, html_table, legend, section
from stopkit.trace.report.study import Study
from stopkit.trace.report.svg import Plot, short, ticks
from stopkit.trace.trace import Trace

COLOURS = 6
"""Costs with lines of their own."""


def constants_section(study: Study) -> str:
    """Show the speed-up of every constant length, at the verify cost of the sections that show one, as HTML."""
    verify = study.costs[study.reference].verify_cost
    at = study.verify_costs()[verify][:COLOURS]
    curves = {index: of_lengths(study.trace, study.costs[index]) for index in at}
    lead = (
        "What a constant draft length K would have given, from no draft to the longest recorded. The ring is the best "
        "length, which nobody knows beforehand: it depends on the models, the text, the temperature and the costs. "
        f"Verify cost {short(verify, 3)}."
    )
    marks = legend(
        [(f"line-key s{row}", f"draft cost {short(study.costs[at[row]].draft_cost, 3)}") for row in range(len(at))]
    )
    pictures = "".join(_picture(study, curves, wide) for wide in (True, False))
    return section(
        "constants",
        "Constant lengths",
        lead,
        figure(pictures, "Speed-up by constant draft length", _every(study, curves), marks) + _best(study, curves),
    )


def of_lengths(trace: Trace, costs: FixedCosts) -> list[float]:
    """The speed-up of every constant length from 0 on."""
    lengths = range(trace.metadata.max_draft + 1)
    return [follow(trace, trace.drafted.clamp(max=length), costs).speedup for length in lengths]


def best_length(curve: Sequence[float]) -> int:
    """The length with the largest speed-up; the shortest of equals."""
    return curve.index(max(curve))


def _picture(study: Study, curves: dict[int, list[float]], wide: bool) -> str:
    every = [value for curve in curves.values() for value in curve]
    longest = study.trace.metadata.max_draft
    plot = Plot(
        960 if wide else 380,
        380 if wide else 320,
        (0, longest),
        (min(every) * 0.97, max(every) * 1.03),
        (26, 14, 42, 42),
    )
    plot.axes(
        ticks(0, longest, 16 if wide else 8, whole=True),
        ticks(min(every), max(every), 6),
        "draft length K",
        "tokens per target-step time",
    )
    for row, (index, curve) in enumerate(curves.items()):
        cost = short(study.costs[index].draft_cost, 3)
        best = best_length(curve)
        plot.add(f'<g class="series s{row}">')
        plot.line([*enumerate(curve)], f"s{row}", f"draft cost {cost}")
        for length, value in enumerate(curve):
            ring = "ring " if length == best else ""
            plot.dot(
                length,
                value,
                f"{ring}s{row}",
                f"K = {length} at draft cost {cost}: {short(value, 3)}",
                4.5 if ring else 2.4,
            )
        plot.add("</g>")
    told = ", ".join(
        f"{best_length(curve)} at {short(study.costs[index].draft_cost, 3)}" for index, curve in curves.items()
    )
    return plot.svg("Speed-up by constant length", f"Best lengths by draft cost: {told}.", "wide" if wide else "narrow")


def _best(study: Study, curves: dict[int, list[float]]) -> str:
    rows: list[list[str | Cell]] = []
    for index, curve in curves.items():
        best = best_length(curve)
        rule = max(study.policies, key=lambda name: study.speedups(name)[index])
        cells = [count(best), exact(curve[best]), exact(study.speedups(rule)[index])]
        rows.append([f"draft cost {short(study.costs[index].draft_cost, 3)}", *cells, rule])
    head = ["costs", "best length", "its speed-up", "best rule's", "best rule"]
    return html_table(head, rows, "The best constant length, known afterwards, beside the best rule")


def _every(study: Study, curves: dict[int, list[float]]) -> str:
    rows: list[list[str | Cell]] = [
        [f"draft cost {short(study.costs[index].draft_cost, 3)}", *map(exact, curve)] for index, curve in curves.items()
    ]
    head = ["K", *map(str, range(study.trace.metadata.max_draft + 1))]
    return html_table(head, rows, "Speed-up by constant length")
