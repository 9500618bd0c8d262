"""Draws the figures of docs/explanation from benchmarks/results: rules.json, which benchmarks/rules.py measures, and
goodput.json, which benchmarks/shelf.py measures. A result that is not there has no figures.

python docs/figures.py
"""

import json
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

ROOT = Path(__file__).parent
RESULTS = ROOT.parent / "benchmarks" / "results"
ASSETS = ROOT / "assets"
INK, GRID = "#78828e", "#78828e40"
COLOURS = ("#1f9e89", "#e07b39", "#7b6fd0", "#c2527a")
TITLES = {"0.0": "temperature 0", "0.7": "temperature 0.7", "1.0": "temperature 1"}
STYLE = {
    "axes.edgecolor": GRID,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.prop_cycle": mpl.cycler(color=COLOURS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "savefig.transparent": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "stopkit",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
Data = dict[str, Any]
DRAFT_COSTS = (0.02, 0.1, 0.4)


def adaedl_estimate(data: Data) -> None:
    """AdaEDL's estimate against what is true, by entropy."""
    _, panels = plt.subplots(2, 3, figsize=(9, 3.9), sharex=True, sharey="row", height_ratios=(4, 1))
    for (key, title), panel, strip in zip(TITLES.items(), *panels, strict=True):
        bins = [part for part in data["calibration"][key]["scores"]["entropy"] if part["weight"] >= 10]
        x = [part["score"] for part in bins]
        if key != "0.0":  # at temperature 0 a token is accepted or not: there is no spread to show
            low, high = ([part["quantiles"][end] for part in bins] for end in (0, -1))
            panel.fill_between(x, low, high, alpha=0.15, linewidth=0, label="measured, 10 … 90 % of positions")
        panel.plot(x, [part["mean"] for part in bins], "o-", markersize=3, label="measured, mean")
        curve = [step / 20 for step in range(1, 101)]
        panel.plot(curve, [1 - (0.2 * h) ** 0.5 for h in curve], "--", label="1 − sqrt(0.2·H)")
        panel.set(title=title, ylim=(0, 1))
        strip.bar([part["from"] for part in bins], [part["weight"] for part in bins], 0.22, align="edge", color=GRID)
        strip.set(xlabel="entropy H of the draft, nats", yticks=[])
        strip.grid(visible=False)
    panels[0][0].set_ylabel("acceptance probability")
    panels[1][0].set_ylabel("tokens")
    panels[0][1].legend(loc="upper right", fontsize=8)


def calibration(data: Data) -> None:
    """Acceptance by the scores that are probabilities already."""
    scores = {"max_probability": "max q", "margin": "q(1) − q(2)", "drawn_probability": "q(x) of the drawn token"}
    _, panels = plt.subplots(1, 3, figsize=(9, 3), sharey=True)
    for (score, label), panel in zip(scores.items(), panels, strict=True):
        panel.plot([0, 1], [0, 1], ":", color=INK, linewidth=1)
        for key, title in TITLES.items():
            bins = [part for part in data["calibration"][key]["scores"][score] if part["weight"] >= 10]
            panel.plot([b["score"] for b in bins], [b["mean"] for b in bins], "o-", markersize=3, label=title)
        panel.set(xlabel=label, xlim=(0, 1), ylim=(0, 1))
    panels[0].set_ylabel("acceptance probability")
    panels[0].legend(loc="lower right", fontsize=8)


def thresholds(data: Data) -> None:
    """Where λ goes from where it starts."""
    _, panel = plt.subplots(figsize=(7, 3))
    for spec, path in data["paths"]["adaedl"].items():
        panel.plot(path["threshold"], label=f"from λ = {spec.split('=')[1].split(',')[0]}")
    panel.axhline(1, linestyle=":", color=INK, linewidth=1)
    panel.set(xlabel="round", ylabel="λ", ylim=(0, 2))
    panel.legend(loc="upper left", ncols=2, fontsize=8)


def lengths(data: Data) -> None:
    """What a draft length is worth, and where three rules went."""
    _, (survival, rate, path) = plt.subplots(1, 3, figsize=(9, 3), width_ratios=(1, 1, 1.5))
    for key, title in TITLES.items():
        shares = data["blocks"][key]["survival"]
        survival.plot(range(1, len(shares) + 1), shares, "o-", markersize=3, label=title)
    survival.set(xlabel="position in the block", ylabel="probability that it is accepted", ylim=(0, 1))
    survival.legend(fontsize=8)
    tokens = list(accumulate(data["blocks"]["0.7"]["survival"], initial=1.0))
    for cost in DRAFT_COSTS:
        rates = [count / (1 + length * (cost + 0.02)) for length, count in enumerate(tokens)]
        rate.plot(rates, "o-", markersize=3, label=f"c = {cost}")
    rate.set(xlabel="draft length K", ylabel="tokens per target step", title="temperature 0.7")
    rate.legend(fontsize=8)
    for spec, rounds in data["paths"]["lengths"].items():
        path.plot(smooth(rounds["cap"], 25), label=spec.split(":")[0])
    path.set(xlabel="round", ylabel="draft length, mean of 25", title="temperature 0.7, c = 0.1")
    path.legend(fontsize=8)


def joint(data: Data) -> None:
    """How often a block is accepted whole, by the product of its largest probabilities."""
    _, panel = plt.subplots(figsize=(4.2, 3.2))
    panel.plot([0, 1], [0, 1], ":", color=INK, linewidth=1)
    for key, title in TITLES.items():
        bins = [part for part in data["blocks"][key]["joint"] if part["weight"] >= 20]
        panel.plot([b["score"] for b in bins], [b["mean"] for b in bins], "o-", markersize=3, label=title)
    panel.set(xlabel="Π max q", ylabel="share of blocks accepted so far", xlim=(0, 1), ylim=(0, 1))
    panel.legend(loc="upper left", fontsize=8)


def bandit(data: Data) -> None:
    """Which policy decided, over the rounds."""
    names = ("max_probability", "static", "no draft")
    _, panels = plt.subplots(1, 2, figsize=(9, 2.8), sharey=True)
    for (spec, path), panel in zip(data["paths"]["bandit"].items(), panels, strict=True):
        for number, name in enumerate(names):
            panel.plot(smooth([float(chosen == number) for chosen in path["chosen"]], 100), label=name)
        panel.set(xlabel="round", title=spec, ylim=(0, 1))
    panels[0].set_ylabel("share of the last 100 rounds")
    panels[1].legend(fontsize=8)


SPEEDS = {
    "clairvoyant": {"color": INK, "linestyle": "--"},
    "goodput": {"color": COLOURS[0], "marker": "o"},
    "best other, tuned at each cost": {"color": COLOURS[2], "marker": "o"},
    "adaedl": {"color": COLOURS[1], "marker": "o"},
    "autoregressive": {"color": INK, "linestyle": ":"},
}
"""Lines of the speed-up figures, and how they are drawn."""


def speedup(data: Data, verify_cost: float) -> None:
    """Speed-up against draft cost, at each temperature."""
    rows = [row for row in data["rows"] if row["verify_cost"] == verify_cost]
    temperatures = sorted({row["temperature"] for row in rows})
    shape: Any = {"sharey": True, "squeeze": False, "layout": "constrained"}
    figure, panels = plt.subplots(1, len(temperatures), figsize=(9, 3.2), **shape)
    for temperature, panel in zip(temperatures, panels[0], strict=True):
        here = [row for row in rows if row["temperature"] == temperature]
        for name, style in SPEEDS.items():
            best: dict[float, float] = {}
            for row in here:
                if _is(row, name):
                    best[row["draft_cost"]] = max(row["speedup"], best.get(row["draft_cost"], 0))
            panel.plot(list(best), list(best.values()), label=name, markersize=3, **style)
        panel.set(xlabel="draft cost c", title=f"temperature {temperature:g}", xscale="log")
        panel.set_xticks(list(best), [f"{cost:g}" for cost in best])
        panel.minorticks_off()
    panels[0][0].set_ylabel("speed-up")
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=len(SPEEDS), fontsize=8)


def _is(row: Data, line: str) -> bool:
    if line.startswith("best other"):
        return row["policy"] not in ("goodput", "clairvoyant", "hindsight")
    return bool(row["policy"] == line)


FIGURES: dict[str, dict[str, Callable[[Data], None]]] = {
    "rules": {
        "adaedl-estimate": adaedl_estimate,
        "adaedl-threshold": thresholds,
        "bandit": bandit,
        "calibration": calibration,
        "joint-confidence": joint,
        "lengths": lengths,
    },
    "goodput": {
        "goodput": partial(speedup, verify_cost=0.02),
        "goodput-verify": partial(speedup, verify_cost=0.15),
    },
}
"""By the result that they show."""


def smooth(values: list[float], width: int) -> list[float]:
    """Means of the last `width` values."""
    sums = [0.0, *accumulate(values)]
    return [(sums[end] - sums[max(0, end - width)]) / min(end, width) for end in range(1, len(sums))]


def main() -> None:
    """Draw all of them."""
    with mpl.rc_context(STYLE):
        for result, figures in FIGURES.items():
            if (path := RESULTS / f"{result}.json").exists():
                document = json.loads(path.read_text(encoding="utf-8"))
                for name, draw in figures.items():
                    draw(document if result == "goodput" else document["rows"][0])
                    _save(ASSETS / f"{name}.svg")


def _save(path: Path) -> None:
    axes: list[Axes] = plt.gcf().axes
    for panel in axes:
        panel.tick_params(length=0)
    if not plt.gcf().get_layout_engine():
        plt.tight_layout()
    plt.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close()


if __name__ == "__main__":
    main()
