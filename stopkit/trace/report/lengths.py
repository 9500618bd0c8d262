"""Section: how long blocks are, and how much of them is accepted."""

from collections.abc import Sequence
from itertools import pairwise

from stopkit.statistics import Statistics
from stopkit.trace.report.html import Cell, behind, count, html_table, legend, panels, section
from stopkit.trace.report.study import Study
from stopkit.trace.report.svg import Plot, short, ticks

MOST = 6
"""Policies, the best ones, whose pictures are there at once; those of the others are folded."""


def histogram(rounds: int, by_position: Sequence[int]) -> list[int]:
    """Rounds by length 0, 1, 2, …, from how many rounds reached each position."""
    reached = [rounds, *by_position, 0]
    return [here - beyond for here, beyond in pairwise(reached)]


def lengths_section(study: Study) -> str:
    """Show each policy's lengths of blocks and what was accepted of them, as HTML."""
    cost = study.costs[study.reference]
    lead = (
        "What a round drafts, and what of it the target keeps, as shares of the rounds. Every rejected token is a "
        f"draft step in vain. At draft cost {short(cost.draft_cost, 3)} and verify cost "
        f"{short(cost.verify_cost, 3)}; rules that ignore costs draft the same at all of them."
    )
    stats = {name: study.replays[name][study.reference].stats for name in study.ranking}
    both = {
        name: (
            histogram(counts.rounds, counts.offered_by_position),
            histogram(counts.rounds, counts.accepted_by_position),
        )
        for name, counts in stats.items()
    }
    longest = max(len(drafted) for drafted, _ in both.values())
    top = max(max(each) / stats[name].rounds for name, pair in both.items() for each in pair)
    pictures = [(name, _note(stats[name]), _picture(name, stats[name], *both[name], longest, top)) for name in both]
    marks = legend([("box-key drafted", "drafted"), ("box-key accepted", "accepted")])
    others = behind(panels(pictures[MOST:]), f"The other {len(pictures) - MOST}") if len(pictures) > MOST else ""
    numbers = behind(_table(stats, both, longest))
    return section("lengths", "Draft and accepted lengths", lead, marks, panels(pictures[:MOST]), others, numbers)


def _note(stats: Statistics) -> str:
    drafted, accepted = stats.drafted / stats.rounds, stats.accepted / stats.rounds
    return f"drafts {short(drafted)} · keeps {short(accepted)} · rate {stats.acceptance_rate:.0%}"


def _picture(
    name: str, stats: Statistics, drafted: Sequence[int], accepted: Sequence[int], longest: int, top: float
) -> str:
    plot = Plot(300, 150, (-0.5, longest - 0.5), (0, top), (8, 6, 24, 34))
    plot.axes(ticks(0, longest - 1, 5, whole=True), ticks(0, top, 4), y_form=lambda share: f"{share:.0%}")
    for style, counts, shift in (("drafted", drafted, -0.42), ("accepted", accepted, 0.0)):
        for length, rounds in enumerate(counts):
            if rounds:
                share = rounds / stats.rounds
                plot.bar(length + shift, 0.42, share, style, f"{style} {length}: {rounds:,} rounds, {share:.1%}")
    description = f"{_note(stats)}. Histograms of drafted and accepted tokens a round, over {stats.rounds} rounds."
    return plot.svg(f"Lengths of {name}", description)


def _table(stats: dict[str, Statistics], both: dict[str, tuple[list[int], list[int]]], longest: int) -> str:
    rows: list[list[str | Cell]] = []
    for name, pair in both.items():
        for what, counts in zip(("drafted", "accepted"), pair, strict=True):
            padded = [*counts, *[0] * (longest - len(counts))]
            rows.append([f"{name}, {what}", *map(count, padded)])
    return html_table(["rounds by length", *map(str, range(longest))], rows, "Rounds by drafted and accepted length")
