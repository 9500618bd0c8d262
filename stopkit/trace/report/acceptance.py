"""Section: acceptance by position in the block."""

import torch

from stopkit.trace.report.html import Cell, exact, figure, html_table, legend, section
from stopkit.trace.report.speed import styles
from stopkit.trace.report.study import Study
from stopkit.trace.report.svg import Plot, ticks
from stopkit.trace.trace import Trace

FEWEST = 20
"""Positions at which a policy has offered fewer tokens are not drawn."""


def acceptance_section(study: Study) -> str:
    """Show how often each position of a block is accepted, as HTML."""
    lead = (
        "Thick: of the recorded rollouts that got this far, the share whose next token was accepted, and the share of "
        "all that survived up to and with it. Thin: of the tokens that a policy offered at a position, the share "
        "accepted. A rule is good at choosing where its line lies above the survival."
    )
    reached, kept = rollouts(study.trace)
    count = int((reached >= FEWEST).sum())
    if not count:
        return section("acceptance", "Acceptance by position", "The trace is too short to say.")
    conditional = [(at + 1.0, int(kept[at]) / int(reached[at])) for at in range(count)]
    survival = [(at, sum_ / whole) for (at, _), (sum_, whole) in zip(conditional, survivals(study.trace), strict=False)]
    style = styles(study)
    shown = [name for name in study.ranking if style[name] != "other"]
    lines = {name: _of_policy(study, name, count) for name in shown}
    pictures = "".join(_picture(conditional, survival, lines, style, wide) for wide in (True, False))
    marks = [("line-key recorded", "next token accepted"), ("line-key recorded survival", "survived so far")]
    marks += [(f"line-key {style[name]}", name) for name in shown]
    caption = f"All {study.trace.tokens:,} rollouts; positions with fewer than {FEWEST} tokens are left out."
    return section(
        "acceptance",
        "Acceptance by position",
        lead,
        figure(pictures, caption, _table(conditional, survival, lines), legend(marks)),
    )


def rollouts(trace: Trace) -> tuple[torch.Tensor, torch.Tensor]:
    """[K], [K]: by position, rollouts that drafted it with all before it accepted, and those accepted there."""
    position = torch.arange(trace.metadata.max_draft)
    asked = (position < trace.drafted.unsqueeze(1)) & (position <= trace.run.unsqueeze(1))
    return asked.sum(0), (position < trace.run.unsqueeze(1)).sum(0)


def survivals(trace: Trace) -> list[tuple[int, int]]:
    """How many rollouts were accepted up to each position and with it, and how many were long enough to tell."""
    position = torch.arange(trace.metadata.max_draft)
    whole = (position < trace.drafted.unsqueeze(1)).sum(0)
    kept = (position < trace.run.unsqueeze(1)).sum(0)
    return list(zip(kept.tolist(), whole.clamp(min=1).tolist(), strict=True))


def _of_policy(study: Study, name: str, count: int) -> list[tuple[float, float]]:
    stats = study.replays[name][study.reference].stats
    pairs = zip(stats.accepted_by_position[:count], stats.offered_by_position[:count], strict=True)
    return [(at + 1.0, kept / offered) for at, (kept, offered) in enumerate(pairs) if offered >= FEWEST]


def _picture(
    conditional: list[tuple[float, float]],
    survival: list[tuple[float, float]],
    lines: dict[str, list[tuple[float, float]]],
    style: dict[str, str],
    wide: bool,
) -> str:
    count = len(conditional)
    plot = Plot(960 if wide else 380, 380 if wide else 320, (1, count), (0, 1), (26, 14, 42, 42))
    x_ticks = range(1, count + 1) if wide or count < 10 else range(1, count + 1, 3)
    plot.axes(
        [*x_ticks], ticks(0, 1, 5), "position in the block", "share accepted", y_form=lambda share: f"{share:.0%}"
    )
    for name, points in lines.items():
        if points:
            plot.add(f'<g class="series {style[name]}">')
            plot.line(points, f"thin {style[name]}", name)
            for at, share in points:
                plot.dot(at, share, style[name], f"{name}, position {at:.0f}: {share:.1%}", 2.4)
            plot.add("</g>")
    plot.line(survival, "recorded survival", "survived so far")
    plot.line(conditional, "recorded", "next token accepted")
    description = (
        f"The chance that the next token is accepted goes from {conditional[0][1]:.0%} at the first position to "
        f"{conditional[-1][1]:.0%} at position {count}; {survival[-1][1]:.0%} of the rollouts survive that far."
    )
    return plot.svg("Acceptance by position", description, "wide" if wide else "narrow")


def _table(
    conditional: list[tuple[float, float]],
    survival: list[tuple[float, float]],
    lines: dict[str, list[tuple[float, float]]],
) -> str:
    named = {"next token accepted": conditional, "survived so far": survival, **lines}
    rows: list[list[str | Cell]] = []
    for name, points in named.items():
        known = dict(points)
        cells = [known.get(at) for at, _ in conditional]
        rows.append([name, *(Cell("") if rate is None else exact(rate) for rate in cells)])
    return html_table(["position", *(f"{at:.0f}" for at, _ in conditional)], rows, "Share accepted, by position from 1")
