"""Section: prompt by prompt, where speculation pays and where it does not."""

from stopkit.trace.replay import Replay
from stopkit.trace.report.html import Cell, count, exact, figure, html_table, legend, section
from stopkit.trace.report.study import Study
from stopkit.trace.report.svg import Plot, short, ticks

SHOWN = 3
"""Prompts at either end that the table shows; the others are behind it."""
BOUND = "best_static"


def prompts_section(study: Study) -> str:
    """Show the speed-up on every prompt, of the best policy and of the best constant length, as HTML."""
    at, best = study.reference, study.ranking[0]
    cost = study.costs[at]
    ours, constant = by_prompt(study.replays[best][at]), by_prompt(study.bounds[BOUND][at])
    order = sorted(range(len(ours)), key=lambda row: -ours[row])
    slower = sum(value < 1 for value in ours)
    lead = (
        f"Prompts from the best to the worst for {best}, which is best on average, beside the best constant length of "
        f"all prompts together. On {slower} of {len(ours)} it is slower than no draft. At draft cost "
        f"{short(cost.draft_cost, 3)} and verify cost {short(cost.verify_cost, 3)}."
    )
    marks = legend([("line-key s0", best), ("line-key bound best_static", "best static length")])
    pictures = "".join(_picture(study, order, ours, constant, wide) for wide in (True, False))
    ends = order if len(order) <= 2 * SHOWN else [*order[:SHOWN], *order[-SHOWN:]]
    whole = _table(study, order, ours, constant, "Every prompt")
    shown = _table(study, ends, ours, constant, "The best and the worst prompts")
    return section("prompts", "Prompts", lead, figure(pictures, "Speed-up by prompt", whole, marks), shown)


def by_prompt(replay: Replay) -> list[float]:
    """The speed-up on every sequence."""
    return [stats.tokens_per_second * replay.costs.verify for stats in replay.sequences]


def _picture(study: Study, order: list[int], ours: list[float], constant: list[float], wide: bool) -> str:
    every = [1.0, *ours, *constant]
    places = range(1, len(order) + 1)
    plot = Plot(
        960 if wide else 380,
        300 if wide else 260,
        (0.5, len(order) + 0.5),
        (min(every) * 0.95, max(every) * 1.05),
        (26, 14, 42, 42),
    )
    plot.axes(
        ticks(1, len(order), 8, whole=True),
        ticks(min(every), max(every), 5),
        "prompt, by rank",
        "tokens per target-step time",
    )
    plot.line([(0.5, 1.0), (len(order) + 0.5, 1.0)], "bound autoregressive", "autoregressive")
    plot.line(
        [(place, constant[row]) for place, row in zip(places, order, strict=True)],
        "bound best_static",
        "best static length",
    )
    for place, row in zip(places, order, strict=True):
        plot.dot(place, ours[row], "s0", f"sequence {study.trace.sequences[row]}: {short(ours[row], 3)}", 3.0)
    description = f"From {short(ours[order[0]], 3)} on the best prompt to {short(ours[order[-1]], 3)} on the worst."
    return plot.svg("Speed-up by prompt", description, "wide" if wide else "narrow")


def _table(study: Study, order: list[int], ours: list[float], constant: list[float], caption: str) -> str:
    best, trace = study.ranking[0], study.trace
    rows: list[list[str | Cell]] = []
    for row in order:
        stats = study.replays[best][study.reference].sequences[row]
        beta = trace.columns["beta"][trace.first[row] : trace.first[row + 1], 0].double().mean()
        cells = [
            count(stats.tokens),
            exact(float(beta), 2),
            exact(stats.block_efficiency, 2),
            exact(ours[row]),
            exact(constant[row]),
        ]
        rows.append([f"sequence {trace.sequences[row]}", *cells])
    head = ["prompt", "tokens", "β", "tokens a round", best, "best static length"]
    return html_table(head, rows, caption)
