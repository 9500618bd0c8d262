"""Section: how much depends on each policy's threshold."""

from stopkit.trace.report.html import Cell, behind, exact, legend, panels, section, table
from stopkit.trace.report.sensitivity import Sweep
from stopkit.trace.report.study import CLAIRVOYANT, Study
from stopkit.trace.report.svg import Plot, number, ticks

SHOWN = 3
"""Draft costs with a line: the smallest, the one that other sections show, the largest."""


def thresholds(study: Study, sweeps: list[Sweep]) -> str:
    """The section."""
    if not sweeps:
        return section("thresholds", "Sensitivity to the threshold", "No policy of this report has a threshold.")
    at = _shown(study)
    lead = (
        "Speed-up as a share of the clairvoyant bound, over the threshold. A ring is the threshold of this report, a "
        "dot the best one on this trace: tuned and judged on the same text, so a little flattering."
    )
    marks = legend(
        [(f"line-key c{place}", f"draft cost {number(_cost(study, index), 3)}") for place, index in enumerate(at)]
    )
    shares = {sweep.policy: _shares(study, sweep) for sweep in sweeps}
    low = min(min(shares[name][index]) for name in shares for index in at)
    pictures = [
        (sweep.policy, _note(sweep, study.reference), _picture(study, sweep, shares[sweep.policy], at, low))
        for sweep in sweeps
    ]
    numbers = behind(_table(study, sweeps))
    return section("thresholds", "Sensitivity to the threshold", lead, marks, panels(pictures), numbers)


def _shown(study: Study) -> list[int]:
    first = next(iter(study.verify_costs().values()))
    return sorted({first[0], min(first, key=lambda index: abs(index - study.reference)), first[-1]})


def _cost(study: Study, index: int) -> float:
    return study.costs[index].draft_cost


def _shares(study: Study, sweep: Sweep) -> list[list[float]]:
    bound = study.speedups(CLAIRVOYANT)
    return [[value / most for value in row] for row, most in zip(sweep.speedups, bound, strict=True)]


def _note(sweep: Sweep, reference: int) -> str:
    return f"here {number(sweep.default)} · best {number(sweep.best(reference))}"


def _picture(study: Study, sweep: Sweep, shares: list[list[float]], at: list[int], low: float) -> str:
    plot = Plot(300, 210, (sweep.values[0], sweep.values[-1]), (low * 0.98, 1), (22, 12, 40, 42))
    y_ticks = ticks(low, 1, 5)
    plot.axes(ticks(sweep.values[0], sweep.values[-1], 5), y_ticks, "threshold", "of clairvoyant", y_form=_percent)
    for place, index in enumerate(at):
        row, values = shares[index], sweep.values
        cost = f"draft cost {number(_cost(study, index), 3)}"
        plot.line(list(zip(values, row, strict=True)), f"c{place}", cost)
        here, best = values.index(sweep.default), row.index(max(row))
        plot.dot(values[best], row[best], f"c{place}", f"{cost}: best at {number(values[best], 3)}, {row[best]:.1%}")
        plot.dot(
            values[here], row[here], f"ring c{place}", f"{cost}: here {number(values[here], 3)}, {row[here]:.1%}", 5
        )
    lost = max(max(row) - row[sweep.values.index(sweep.default)] for row in (shares[index] for index in at))
    description = (
        f"Lines for {len(at)} draft costs over thresholds from {number(sweep.values[0])} to "
        f"{number(sweep.values[-1])}. The threshold here loses up to {lost:.0%} of the bound against the best one."
    )
    return plot.svg(f"Threshold of {sweep.policy}", description)


def _percent(share: float) -> str:
    return f"{share:.0%}"


def _table(study: Study, sweeps: list[Sweep]) -> str:
    rows: list[list[str | Cell]] = []
    for sweep in sweeps:
        for at, value in enumerate(sweep.values):
            rows.append([sweep.policy, exact(value), *(exact(row[at]) for row in sweep.speedups)])
    costs = [f"c = {number(cost.draft_cost, 3)}, v = {number(cost.verify_cost, 3)}" for cost in study.costs]
    return table(["policy", "threshold", *costs], rows, "Speed-up by threshold")
