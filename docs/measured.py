"""Fills in what was measured, whenever the site is built: `<!-- measured: NAME RESULT -->` becomes `PARTS[NAME]`.

So the figures of a page are always those of benchmarks/results/RESULT.json. Where that is not there, the page says so.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from statistics import geometric_mean
from typing import Any

ROOT = Path(__file__).parent
RESULTS = ROOT.parent / "benchmarks" / "results"
MARK = re.compile(r"<!-- measured: (\w+) ([\w-]+) -->")
MISSING = "*Not measured yet: run the command above.*"
FIGURES = {
    "goodput": "At verify cost 0.02: speed-up against draft cost, at each temperature",
    "goodput-verify": "At verify cost 0.15: speed-up against draft cost, at each temperature",
}
Data = dict[str, Any]


def about(data: Data) -> str:
    """What was replayed."""
    found, config = data["conditions"], data["conditions"]["config"]
    traces = config["traces"]
    lines = [
        f"* temperature {trace['recording']['sampling']['temperature']:g}: {trace['tokens']:,} tokens in "
        f"{trace['sequences']} sequences, target `{trace['recording']['target']['hash'][:8]}`, "
        f"draft `{trace['recording']['draft']['hash'][:8]}`"
        for trace in traces
    ]
    if config["first"]:
        lines.append(f"* of each sequence the first {config['first']} tokens alone")
    versions = ", ".join(f"{name} {found['versions'][name]}" for name in ("stopkit", "python", "torch"))
    return "\n".join([*lines, f"* {versions}; commit `{str(found['git'])[:8]}`"])


def ratios(data: Data) -> str:
    """How much faster `goodput` is than others: a table for each verify cost, and where it does worst."""
    parts = []
    for cost in dict.fromkeys(row["verify_cost"] for row in data["ratios"]):
        rows = [row for row in data["ratios"] if row["verify_cost"] == cost]
        temperatures = list(dict.fromkeys(row["temperature"] for row in rows))
        titles = [name if name == "all" else f"T = {name}" for name in temperatures]
        lines, worst = [["goodput /", *titles, "worst cell"]], []
        for against in dict.fromkeys(row["against"] for row in rows):
            group = {row["temperature"]: row for row in rows if row["against"] == against}
            means = [group[temperature]["geometric_mean"] for temperature in temperatures]
            lines.append([against, *(f"{value:.3f}" for value in (*means, group["all"]["worst"]))])
            worst.append(f"* {against}: {_place(group['all'])}")
        parts += [f"At verify cost {cost:g}:", _table(lines), "The worst cells:", "\n".join(worst)]
    return "\n\n".join(parts)


def _place(row: Data) -> str:
    place = row["worst_cell"]
    text = f"temperature {place['temperature']:g}, draft cost {place['draft_cost']:g}"
    return text if place["other"] == row["against"] else f"{text}, against `{place['other']}`"


def _table(lines: list[list[str]]) -> str:
    rows = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def shelf(data: Data) -> str:
    """Every policy with its defaults: geometric means of speed-ups over all draft costs, best first."""
    plain = [row for row in data["rows"] if "tuned" not in row]
    columns = sorted({(row["verify_cost"], row["temperature"]) for row in plain})
    speeds: dict[str, list[list[float]]] = {}
    for row in plain:
        places = speeds.setdefault(row["policy"], [[] for _ in columns])
        places[columns.index((row["verify_cost"], row["temperature"]))].append(row["speedup"])
    means = {name: [geometric_mean(values) for values in places] for name, places in speeds.items()}
    titles = [f"T = {temperature:g}, v = {cost:g}" for cost, temperature in columns]
    order = sorted(means, key=lambda name: -geometric_mean(means[name]))
    lines = [[f"`{name}`", *(f"{value:.2f}" for value in means[name])] for name in order]
    return _table([["policy", *titles], *lines])


def figures(data: Data) -> str:
    """Those that docs/figures.py has drawn."""
    drawn = {name: title for name, title in FIGURES.items() if (ROOT / "assets" / f"{name}.svg").exists()}
    return "\n\n".join(f"{title}:\n\n![{title}](../assets/{name}.svg)" for name, title in drawn.items()) or MISSING


PARTS: dict[str, Callable[[Data], str]] = {"about": about, "ratios": ratios, "shelf": shelf, "figures": figures}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs with the text of every page."""
    return MARK.sub(lambda found: filled(*found.groups()), markdown)


def filled(part: str, result: str) -> str:
    """What stands in place of a mark."""
    path = RESULTS / f"{result}.json"
    return PARTS[part](json.loads(path.read_text(encoding="utf-8"))) if path.exists() else MISSING
