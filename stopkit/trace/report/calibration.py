"""Section: how true scores are, held against what the target accepted where everything before had been accepted.

`calibrations` measures them, `calibration_section` shows what came out."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from stopkit.costs import FixedCosts
from stopkit.policy import StoppingPolicy
from stopkit.signals import Signals
from stopkit.threshold import ThresholdPolicy
from stopkit.trace.report.estimates import Estimating, estimates
from stopkit.trace.report.html import Cell, behind, count, exact, html_table, legend, panels, section
from stopkit.trace.report.study import Study
from stopkit.trace.report.svg import Plot, short, ticks
from stopkit.trace.trace import Trace

BINS = 12
"""Bins of equally many positions."""
Z = 1.96
"""Intervals hold the true share in 95% of cases."""


@dataclass(frozen=True)
class Bin:
    """Positions whose scores are close to each other."""

    count: int
    score: float
    """Mean of the score."""
    chance: float
    """Mean acceptance probability, from both distributions: of the position, or of the token where it is known."""
    accepted: float
    """Share that was accepted."""

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95% interval of the share."""
        n, p = self.count, self.accepted
        middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
        half = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
        return middle - half, middle + half


@dataclass(frozen=True)
class Calibration:
    """One score over all positions."""

    bins: tuple[Bin, ...]
    histogram: tuple[float, ...]
    """Share of positions in each tenth of the scale from 0 to 1."""
    gap: float
    """Mean distance of the score from the share accepted, over the bins."""
    auc: float
    """Probability that an accepted position has the larger score than a rejected one; 0.5 knows nothing."""


def calibrations(trace: Trace, policies: Mapping[str, StoppingPolicy], cost: FixedCosts) -> dict[str, Calibration]:
    """How true each is, by name: scores of threshold policies, the drawn token's probability, policies' estimates.

    Scores are judged at every position; a policy's estimate at those that it drafts in a replay at `cost`.
    """
    position = torch.arange(trace.metadata.max_draft)
    asked = (position < trace.drafted.unsqueeze(1)) & (position <= trace.run.unsqueeze(1))
    columns = {name: trace.columns[name][asked] for name in ("entropy", "max_probability", "margin")}
    beta = trace.columns["beta"][asked].double()
    accepted = (position < trace.run.unsqueeze(1))[asked]
    signals = Signals(**columns)
    scores = {
        name: policy.score(signals)
        for name, policy in policies.items()
        if isinstance(policy, ThresholdPolicy) and policy.required_signals <= columns.keys()
    }
    if not len(beta):
        return {}
    judged = {name: calibration(score.double(), beta, accepted) for name, score in scores.items()}
    drawn, chance = (trace.columns[name][asked].double() for name in ("drawn_probability", "acceptance"))
    judged["q(x), the drawn token"] = calibration(drawn, chance, accepted)
    for name, policy in policies.items():
        if isinstance(policy, Estimating):
            score, start, place = estimates(trace, policy, cost)
            if len(score):
                chance = trace.columns["acceptance"][start, place].double()
                judged[f"{name}'s estimate"] = calibration(score, chance, place < trace.run[start])
    return judged


def calibration(score: Tensor, chance: Tensor, accepted: Tensor) -> Calibration:
    """Hold a score [N] against the acceptance probability [N] and what was accepted, bool [N]; N is 1 or more."""
    order = score.argsort(stable=True)
    bins = tuple(
        Bin(len(rows), *(float(value[rows].double().mean()) for value in (score, chance, accepted)))
        for rows in order.tensor_split(min(BINS, len(score)))
    )
    counts = torch.histc(score.clamp(0, 1), bins=10, min=0, max=1)
    gap = sum(each.count * abs(each.score - each.accepted) for each in bins) / len(score)
    return Calibration(bins, tuple((counts / counts.sum()).tolist()), gap, _auc(score, accepted))


def _auc(score: Tensor, accepted: Tensor) -> float:
    """The area under the ROC curve, by ranks; equal scores share the mean of their ranks."""
    _, place, counts = torch.unique(score, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum(0) - (counts - 1) / 2)[place]
    hits = int(accepted.sum())
    pairs = hits * (len(score) - hits)
    return float(ranks[accepted].sum() - hits * (hits + 1) / 2) / pairs if pairs else 0.5


TENTHS = 10
STRIP = 0.18
"""Height of the largest bar of the histogram at the foot of a panel, on the scale of the plot."""


def calibration_section(study: Study) -> str:
    """Show each policy's estimates of acceptance beside what was accepted, as HTML."""
    lead = (
        "Where a score lies on the diagonal it is the acceptance probability, and a threshold on it means what it "
        "says. Points hold equally many positions. Positions after a rejection do not count. Grey bars say how often a "
        "score is shown."
    )
    judged = calibrations(study.trace, study.policies, study.costs[study.reference])
    if not judged:
        return section("calibration", "Calibration", "No policy of this report holds a score against a threshold.")
    pictures = [
        (name, f"gap {each.gap:.3f} · area under ROC {each.auc:.3f}", _picture(name, each))
        for name, each in judged.items()
    ]
    marks = legend([("dot-key accepted-dot", "share accepted, 95%"), ("line-key beta", "acceptance probability, mean")])
    return section("calibration", "Calibration", lead, marks, panels(pictures), behind(_table(judged)))


def _picture(name: str, judged: Calibration) -> str:
    plot = Plot(300, 290, (0, 1), (0, 1), (22, 12, 42, 38))
    plot.axes(ticks(0, 1, 5), ticks(0, 1, 5), "score", "accepted")
    for tenth, share in enumerate(judged.histogram):
        title = f"{share:.1%} of positions score {short(tenth / TENTHS, 1)} … {short((tenth + 1) / TENTHS, 1)}"
        plot.bar(tenth / TENTHS + 0.008, 1 / TENTHS - 0.016, share * STRIP / max(judged.histogram), "strip", title)
    plot.line([(0, 0), (1, 1)], "diagonal", "a calibrated score")
    inside = [bin_ for bin_ in judged.bins if 0 <= bin_.score <= 1]
    if inside:
        plot.line([(bin_.score, bin_.chance) for bin_ in inside], "beta", "acceptance probability")
    for bin_ in inside:
        low, high = bin_.interval
        plot.whisker(bin_.score, max(0.0, low), min(1.0, high), "accepted-dot")
        title = f"score {bin_.score:.3f}: {bin_.accepted:.1%} of {bin_.count:,} accepted, expected {bin_.chance:.1%}"
        plot.dot(bin_.score, bin_.accepted, "accepted-dot", title)
    first, last = judged.bins[0], judged.bins[-1]
    description = (
        f"Acceptance rises from {first.accepted:.0%} at scores about {short(first.score)} to {last.accepted:.0%} at "
        f"{short(last.score)}. On average the score is {short(judged.gap, 3)} away from the share accepted."
    )
    return plot.svg(f"Calibration of {name}", description)


def _table(judged: dict[str, Calibration]) -> str:
    rows: list[list[str | Cell]] = []
    for name, each in judged.items():
        for place in each.bins:
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
    return html_table(head, rows, "Bins of equally many positions")
