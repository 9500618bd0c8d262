"""Section: calibration of the scores that policies hold against thresholds."""

from stopkit.trace.report.calibration import Calibration, calibrations
from stopkit.trace.report.html import Cell, behind, count, exact, legend, panels, section, table
from stopkit.trace.report.study import Study
from stopkit.trace.report.svg import Plot, number, ticks

TENTHS = 10
STRIP = 0.18
"""Height of the largest bar of the histogram at the foot of a panel, on the scale of the plot."""


def scores(study: Study) -> str:
    """The section."""
    lead = (
        "Where a score lies on the diagonal it is the acceptance probability, and a threshold on it means what it "
        "says. Points hold equally many positions. Positions after a rejection do not count. Grey bars say how often a "
        "score is shown."
    )
    found = calibrations(study.trace, study.policies, study.costs[study.reference])
    if not found:
        return section("calibration", "Calibration", "No policy of this report holds a score against a threshold.")
    pictures = [
        (name, f"gap {one.gap:.3f} · area under ROC {one.auc:.3f}", _picture(name, one)) for name, one in found.items()
    ]
    marks = legend([("dot-key accepted-dot", "share accepted, 95%"), ("line-key beta", "acceptance probability, mean")])
    return section("calibration", "Calibration", lead, marks, panels(pictures), behind(_table(found)))


def _picture(name: str, found: Calibration) -> str:
    plot = Plot(300, 290, (0, 1), (0, 1), (22, 12, 42, 38))
    plot.axes(ticks(0, 1, 5), ticks(0, 1, 5), "score", "accepted")
    for tenth, share in enumerate(found.histogram):
        told = f"{share:.1%} of positions score {number(tenth / TENTHS, 1)} … {number((tenth + 1) / TENTHS, 1)}"
        plot.bar(tenth / TENTHS + 0.008, 1 / TENTHS - 0.016, share * STRIP / max(found.histogram), "strip", told)
    plot.line([(0, 0), (1, 1)], "diagonal", "a calibrated score")
    inside = [one for one in found.bins if 0 <= one.score <= 1]
    if inside:
        plot.line([(one.score, one.chance) for one in inside], "beta", "acceptance probability")
    for one in inside:
        low, high = one.interval
        plot.whisker(one.score, max(0.0, low), min(1.0, high), "accepted-dot")
        told = f"score {one.score:.3f}: {one.accepted:.1%} of {one.count:,} accepted, expected {one.chance:.1%}"
        plot.dot(one.score, one.accepted, "accepted-dot", told)
    first, last = found.bins[0], found.bins[-1]
    description = (
        f"Acceptance rises from {first.accepted:.0%} at scores about {number(first.score)} to {last.accepted:.0%} at "
        f"{number(last.score)}. On average the score is {number(found.gap, 3)} away from the share accepted."
    )
    return plot.svg(f"Calibration of {name}", description)


def _table(found: dict[str, Calibration]) -> str:
    rows: list[list[str | Cell]] = []
    for name, one in found.items():
        for place in one.bins:
            low, high = place.interval
            rows.append(
                [
                    name,
                    count(place.count),
                    *map(exact, (place.score, place.chance, place.accepted)),
                    Cell(f"{low:.3f} … {high:.3f}", style="number"),
                ]
            )
    head = ["score", "positions", "mean score", "acceptance probability", "accepted", "95% interval"]
    return table(head, rows, "Bins of equally many positions")
