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
    if config.get("first"):
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


def paper_costs(data: Data) -> str:
    """What the speeds of constant lengths in the paper say of its models."""
    lines = [
        ["data set", "accepted with probability", "draft cost c", *(f"L = {length}" for length in ("3", "7", "16"))]
    ]
    for name, fit in data["fits"].items():
        speedups = [f"{fit['speedups'][length]:.2f}" for length in ("3", "7", "16")]
        lines.append([name, f"{fit['acceptance']:.2f}", f"{fit['draft_cost']:.3f}", *speedups])
    return _table(lines)


def paper_cells(data: Data) -> str:
    """Every rule at every longest draft and temperature: its speed-up ± half its interval, and the threshold."""
    rows = {(row["temperature"], row["longest"], row["rule"]): row for row in data["rows"]}
    temperatures, lengths, rules = (list(dict.fromkeys(parts)) for parts in zip(*rows, strict=True))
    lines = [["L", "rule", *(f"T = {temperature:g}" for temperature in temperatures)]]
    for length in lengths:
        for rule in rules:
            cells = [_speedup(rows[temperature, length, rule]) for temperature in temperatures]
            lines.append([str(length), rule.replace("_", " "), *cells])
    return _table(lines)


def _speedup(row: Data) -> str:
    low, high = row["interval"]
    threshold = f" (λ {row['threshold']:g})" if row["threshold"] is not None else ""
    return f"{row['speedup']:.2f} ± {(high - low) / 2:.2f}{threshold}"


CLAIMS = (
    ("AdaEDL, tuned, over static of the same L", "adaedl, tuned", "over_static"),
    ("AdaEDL, tuned, over the best static", "adaedl, tuned", "over_best_static"),
    ("AdaEDL, tuned, over Max-Confidence, tuned", "adaedl, tuned", "over_max_confidence"),
    ("AdaEDL, default, over static of the same L", "adaedl", "over_static"),
    ("goodput over the best static", "goodput", "over_best_static"),
    ("goodput over Max-Confidence, tuned", "goodput", "over_max_confidence"),
)
"""Of the paper, and of goodput in the same cells: what is claimed, of which rule, against which."""


def paper_claims(data: Data) -> str:
    """In how many cells a claim holds, beyond what chance would do, and the geometric mean of the ratios."""
    lines = [["", "holds", "cannot be told", "the other way round", "geometric mean", "smallest", "largest"]]
    for claim, rule, against in CLAIMS:
        found = [row[against] for row in data["rows"] if row["rule"] == rule]
        above = sum(each["interval"][0] > 1 for each in found)
        below = sum(each["interval"][1] < 1 for each in found)
        ratios = [each["ratio"] for each in found]
        figures = [f"{value:.2f}" for value in (geometric_mean(ratios), min(ratios), max(ratios))]
        lines.append([claim, str(above), str(len(found) - above - below), str(below), *figures])
    return _table(lines)


def paper_drafts(data: Data) -> str:
    """What a dearer draft does to each rule."""
    rules = [name for name in data["drafts"][0] if name != "draft_cost"]
    lines = [["draft cost c", *rules, "AdaEDL / static"]]
    for row in data["drafts"]:
        speeds = [f"{row[rule]:.2f}" for rule in rules]
        lines.append([f"{row['draft_cost']:g}", *speeds, f"{row['adaedl'] / row['static']:.2f}"])
    return _table(lines)


PARTS: dict[str, Callable[[Data], str]] = {
    each.__name__: each
    for each in (about, ratios, shelf, figures, paper_costs, paper_cells, paper_claims, paper_drafts)
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs with the text of every page."""
    return MARK.sub(lambda found: filled(*found.groups()), markdown)


def filled(part: str, result: str) -> str:
    """What stands in place of a mark."""
    path = RESULTS / f"{result}.json"
    return PARTS[part](json.loads(path.read_text(encoding="utf-8"))) if path.exists() else MISSING
