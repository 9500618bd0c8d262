"""Section: speed-up against the cost of a draft step, for all policies, with the bounds."""

from collections.abc import Sequence

from stopkit.intervals import Standing
from stopkit.trace.report.html import Cell, exact, figure, html_table, legend, section
from stopkit.trace.report.study import CLAIRVOYANT, Study, geometric_mean
from stopkit.trace.report.svg import Plot, short, ticks

BOUND_NAMES = {
    "hindsight": "hindsight",
    "clairvoyant": "clairvoyant",
    "best_static": "best static length",
    "autoregressive": "autoregressive",
}
"""Bounds as the page calls them, the highest first."""
COLOURED = 5
"""Policies with colours of their own: the best ones, and the project's reference."""
REFERENCE_POLICY = "adaedl"


LABEL = 20
"""Most characters of a policy's name beside its line."""


def shortened(name: str) -> str:
    """A policy's name, cut where it would run out of the picture."""
    return name if len(name) <= LABEL else name[: LABEL - 1] + "…"


def styles(study: Study) -> dict[str, str]:
    """The class of every policy: a colour for a few, grey for the others."""
    named = study.ranking[:COLOURED]
    if REFERENCE_POLICY in study.policies and REFERENCE_POLICY not in named:
        named = [*named, REFERENCE_POLICY]
    return {name: f"s{named.index(name)}" if name in named else "other" for name in study.ranking}


def speed_section(study: Study) -> str:
    """Show each policy's speed-up over the cost of a draft step, as HTML."""
    lead = (
        "Tokens per target-step time: 1 is decoding without a draft. A draft step costs the given share of a target "
        "step. The dashed line is the best rule that knows every acceptance probability; what lies above it needs to "
        "know the future. Thin strokes are 95% intervals, by bootstrap over the sequences. In the tables the best is "
        "in bold, and underlined is what cannot be told from it, sequence by sequence."
    )
    parts = []
    for verify, at in study.verify_costs().items():
        note = f"Each block token adds {short(verify, 3)} of a target step to a verification."
        pictures = "".join(_picture(study, at, wide, note) for wide in (True, False))
        parts.append(figure(pictures, note, legend=_legend(study)) + _table(study, at, verify))
    return section("speed", "Speed-up", lead, *parts)


def _picture(study: Study, at: Sequence[int], wide: bool, note: str) -> str:
    costs = [study.costs[index].draft_cost for index in at]
    every = [study.speedups(name)[index] for name in (*study.policies, *study.bounds) for index in at]
    y_ticks = ticks(min(every) * 0.98, max(every) * 1.02, 8)
    low, high = min(every) * 0.97, max(every) * 1.03
    room = (26.0, 178.0, 42.0, 34.0) if wide else (26.0, 10.0, 42.0, 30.0)
    log = min(costs) > 0
    x = (min(costs), max(costs)) if len(costs) > 1 else (costs[0] * 0.7, costs[0] / 0.7)
    plot = Plot(960 if wide else 380, 460 if wide else 380, x, (low, high), room, log_x=log)
    plot.axes(costs, y_ticks, "draft cost, in target steps", "tokens per target-step time", lambda c: short(c, 3))

    def along(name: str) -> list[tuple[float, float]]:
        speedups = study.speedups(name)
        if len(costs) == 1:  # a level across the picture
            return [(end, speedups[at[0]]) for end in x]
        return [(cost, speedups[index]) for cost, index in zip(costs, at, strict=True)]

    plot.area(along("hindsight"), along(CLAIRVOYANT), "beyond", "above the clairvoyant bound")
    for name in BOUND_NAMES:
        plot.line(along(name), f"bound {name}", BOUND_NAMES[name])
    style = styles(study)
    for name in reversed(study.ranking):  # the best on top
        radius = 2.2 if style[name] == "other" else 3.6
        plot.add(f'<g class="series {style[name]}">')
        plot.line(along(name), style[name], name)
        for cost, index in zip(costs, at, strict=True):
            value = study.speedups(name)[index]
            told_here = f"{name}: {short(value, 3)} at draft cost {short(cost, 3)}"
            if (sure := study.standings[index][name].interval) and style[name] != "other":
                plot.whisker(cost, max(low, sure[0]), min(high, sure[1]), style[name])
            plot.dot(cost, value, style[name], told_here, radius)
        plot.add("</g>")
    if wide:
        ends = [(along(name)[-1][1], shortened(name), style[name]) for name in study.ranking if style[name] != "other"]
        ends += [(along(name)[-1][1], shown, "quiet") for name, shown in BOUND_NAMES.items()]
        plot.end_labels(ends, x[1])
    best = study.ranking[0]
    description = (
        f"Lines of {len(study.policies)} policies and four bounds over draft costs from {short(x[0], 3)} to "
        f"{short(x[1], 3)}. {note} Best on average is {best}. The table below has every number."
    )
    return plot.svg("Speed-up against draft cost", description, "wide" if wide else "narrow")


def _legend(study: Study) -> str:
    style = styles(study)
    entries = [(f"line-key {style[name]}", name) for name in study.ranking if style[name] != "other"]
    entries += [("line-key other", "other policies")] if "other" in style.values() else []
    entries += [(f"line-key bound {name}", shown) for name, shown in BOUND_NAMES.items()]
    return legend(entries, "narrow")


def _table(study: Study, at: Sequence[int], verify: float) -> str:
    bound = [study.speedups(CLAIRVOYANT)[index] for index in at]

    def row(name: str, shown: str, style: str) -> list[str | Cell]:
        values = [study.speedups(name)[index] for index in at]
        cells = [
            exact(value, 3, _tint(value / most) if style else None, _standing(study.standings[index][name], style))
            for value, most, index in zip(values, bound, at, strict=True)
        ]
        share = geometric_mean([value / most for value, most in zip(values, bound, strict=True)])
        mean = geometric_mean(values)
        return [
            Cell(shown, style=style or f"bound-row {name}"),
            *cells,
            exact(mean, 3, style="mean"),
            Cell(f"{share:.0%}", share, None, "number"),
        ]

    style = styles(study)
    rows = [row(name, name, f"named {style[name]}") for name in study.ranking]
    rows += [row(name, shown, "") for name, shown in BOUND_NAMES.items()]
    head = [
        "policy",
        *(f"c = {short(study.costs[index].draft_cost, 3)}" for index in at),
        "mean",
        "of clairvoyant",
    ]
    caption = (
        f"Speed-up by draft cost c, verify cost {short(verify, 3)}; means are geometric, the best are in bold, those "
        "that cannot be told from them underlined"
    )
    return html_table(head, rows, caption, f"speed-{short(verify, 4).replace('.', '-')}")


def _standing(standing: Standing, style: str) -> str:
    """The class of a policy's cell; bounds have none."""
    if not style:
        return ""
    return "best" if standing.of_best == 1 else "like-best" if standing.like_best else ""


def _tint(share: float) -> float:
    """How strongly a cell is tinted: from 0 at seven tenths of the bound or less to 1 at the bound."""
    return min(1.0, max(0.0, (share - 0.7) / 0.3))
