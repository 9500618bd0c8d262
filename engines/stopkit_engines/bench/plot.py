"""A benchmark as one SVG: a bar for every contestant, a panel for every dtype, temperature and batch size."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

PANEL, LABEL, BAR, HEAD, GAP = 760, 250, 16, 30, 6
"""Units: width of all, of names, height of a bar, of a heading, between bars."""
STYLE = (
    "text{font:12px sans-serif;fill:#333}.h{font-weight:bold}.ours{fill:#2a6f97}.peer{fill:#a9a9a9}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.ours{fill:#61a5c2}}"
)
SECTION = ("dtype", "temperature", "batch_size", "prompt_tokens")


def plot(rows: Sequence[Mapping[str, Any]], peer: str) -> str:
    """Tokens per second of `rows`; those that run on `peer` have another colour, and those that failed no bar."""
    sections = dict.fromkeys(tuple(row[name] for name in SECTION) for row in rows)
    parts, at = [], 0.0
    for section in sections:
        here = [row for row in rows if tuple(row[name] for name in SECTION) == section and "error" not in row]
        parts.append(f'<text class="h" x="0" y="{at + 18}">{escape(_title(section))}</text>')
        at += HEAD
        fastest = max((row["tokens_per_second"] for row in here), default=1.0)
        for row in sorted(here, key=lambda row: -row["tokens_per_second"]):
            parts += _bar(row, at, fastest, "peer" if row["engine"] == peer else "ours")
            at += BAR + GAP
        at += GAP
    size = f'viewBox="0 0 {PANEL} {at:.0f}" width="{PANEL}" height="{at:.0f}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style>{"".join(parts)}</svg>\n'


def _bar(row: Mapping[str, Any], at: float, fastest: float, kind: str) -> list[str]:
    speed, width = row["tokens_per_second"], (PANEL - LABEL - 70) * row["tokens_per_second"] / fastest
    name = escape(f"{row['engine']}  {row['policy']}")
    return [
        f'<text x="{LABEL - 8}" y="{at + BAR - 4}" text-anchor="end">{name}</text>',
        f'<rect class="{kind}" x="{LABEL}" y="{at}" width="{width:.1f}" height="{BAR}"/>',
        f'<text x="{LABEL + width + 6:.1f}" y="{at + BAR - 4}">{speed:,.0f}</text>',
    ]


def _title(section: tuple[Any, ...]) -> str:
    dtype, temperature, rows, length = section
    title = f"{dtype}, temperature {temperature:g}, {rows} side by side, tokens per second"
    return title if length is None else f"{title}, prompts of {length} tokens"
