"""Section: how much depends on each policy's threshold.

`sweeps` replays every policy that has one over its range, `thresholds_section` shows what came out."""

from collections.abc import Sequence
from dataclasses import dataclass

from stopkit.policy import StoppingPolicy
from stopkit.trace.comparison import Tick
from stopkit.trace.replay import replay
from stopkit.trace.report.html import Cell, behind, exact, html_table, legend, panels, section
from stopkit.trace.report.study import CLAIRVOYANT, Study
from stopkit.trace.report.svg import Plot, short, ticks

FIELD = "threshold"
STEPS = 11
WIDEST = 1.0
"""Thresholds are tried from 0 up to here, or up to their own bound."""


@dataclass(frozen=True)
class Sweep:
    """A policy over its threshold."""

    policy: str
    default: float
    """The threshold that it has in the report."""
    values: tuple[float, ...]
    speedups: tuple[tuple[float, ...], ...]
    """A row for each pair of costs, with the speed-up at each of `values`."""

    def best(self, cost: int) -> float:
        """The threshold with the highest speed-up, on this very trace."""
        row = self.speedups[cost]
        return self.values[row.index(max(row))]


def swept(study: Study) -> list[str]:
    """The policies with a threshold, if their sequences learn apart from each other, which is fast to replay."""
    return [name for name, policy in study.policies.items() if _bound(policy) and not policy.couples_rows]


def sweeps(study: Study, tick: Tick = lambda name, part: None) -> list[Sweep]:
    """A sweep for each of `swept`, at the study's costs."""
    return [_sweep(study, name, tick) for name in swept(study)]


def _sweep(study: Study, name: str, tick: Tick) -> Sweep:
    policy = study.policies[name]
    default = float(getattr(policy, FIELD))
    top = _bound(policy)
    values = sorted({*(round(top * step / (STEPS - 1), 6) for step in range(STEPS)), default})
    speedups: list[Sequence[float]] = []
    for value in values:
        if value == default:
            speedups.append(study.speedups(name))
        else:
            changed = policy.model_copy(update={FIELD: value})
            speedups.append([each.speedup for each in replay(study.trace, changed, study.costs)])
    tick(f"{name}'s {FIELD}", 1.0)
    return Sweep(name, default, tuple(values), tuple(zip(*speedups, strict=True)))


def _bound(policy: StoppingPolicy) -> float:
    """The largest threshold to try; 0 if the policy has none."""
    field = type(policy).model_fields.get(FIELD)
    if field is None or field.annotation is not float:
        return 0.0
    limits = [limit for rule in field.metadata if (limit := getattr(rule, "le", None)) is not None]
    return float(min([WIDEST, *limits]))


SHOWN = 3
"""Draft costs with a line: the smallest, the one that other sections show, the largest."""


def thresholds_section(study: Study, sweeps: list[Sweep]) -> str:
    """Show each policy's speed-up over its threshold, as HTML."""
    if not sweeps:
        return section("thresholds", "Sensitivity to the threshold", "No policy of this report has a threshold.")
    at = _shown(study)
    lead = (
        "Speed-up as a share of the clairvoyant bound, over the threshold. A ring is the threshold of this report, a "
        "dot the best one on this trace: tuned and judged on the same text, so a little flattering."
    )
    marks = legend(
        [(f"line-key c{place}", f"draft cost {short(_cost(study, index), 3)}") for place, index in enumerate(at)]
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
    return f"here {short(sweep.default)} · best {short(sweep.best(reference))}"


def _picture(study: Study, sweep: Sweep, shares: list[list[float]], at: list[int], low: float) -> str:
    plot = Plot(300, 210, (sweep.values[0], sweep.values[-1]), (low * 0.98, 1), (22, 12, 40, 42))
    y_ticks = ticks(low, 1, 5)
    plot.axes(ticks(sweep.values[0], sweep.values[-1], 5), y_ticks, "threshold", "of clairvoyant", y_form=_percent)
    for place, index in enumerate(at):
        row, values = shares[index], sweep.values
        cost = f"draft cost {short(_cost(study, index), 3)}"
        plot.line(list(zip(values, row, strict=True)), f"c{place}", cost)
        here, best = values.index(sweep.default), row.index(max(row))
        plot.dot(values[best], row[best], f"c{place}", f"{cost}: best at {short(values[best], 3)}, {row[best]:.1%}")
        plot.dot(
            values[here], row[here], f"ring c{place}", f"{cost}: here {short(values[here], 3)}, {row[here]:.1%}", 5
        )
    lost = max(max(row) - row[sweep.values.index(sweep.default)] for row in (shares[index] for index in at))
    description = (
        f"Lines for {len(at)} draft costs over thresholds from {short(sweep.values[0])} to "
        f"{short(sweep.values[-1])}. The threshold here loses up to {lost:.0%} of the bound against the best one."
    )
    return plot.svg(f"Threshold of {sweep.policy}", description)


def _percent(share: float) -> str:
    return f"{share:.0%}"


def _table(study: Study, sweeps: list[Sweep]) -> str:
    rows: list[list[str | Cell]] = []
    for sweep in sweeps:
        for at, value in enumerate(sweep.values):
            rows.append([sweep.policy, exact(value), *(exact(row[at]) for row in sweep.speedups)])
    costs = [f"c = {short(cost.draft_cost, 3)}, v = {short(cost.verify_cost, 3)}" for cost in study.costs]
    return html_table(["policy", "threshold", *costs], rows, "Speed-up by threshold")
