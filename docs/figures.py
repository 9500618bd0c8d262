"""Draws the figures of docs/explanation from benchmarks/results/rules.json, which benchmarks/rules.py measures.

python docs/figures.py
"""

import json
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

ROOT = Path(__file__).parent
RESULT = ROOT.parent / "benchmarks" / "results" / "rules.json"
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


FIGURES: dict[str, Callable[[Data], None]] = {
    "adaedl-estimate": adaedl_estimate,
    "adaedl-threshold": thresholds,
    "bandit": bandit,
    "calibration": calibration,
    "joint-confidence": joint,
    "lengths": lengths,
}


def smooth(values: list[float], width: int) -> list[float]:
    """Means of the last `width` values."""
    sums = [0.0, *accumulate(values)]
    return [(sums[end] - sums[max(0, end - width)]) / min(end, width) for end in range(1, len(sums))]


def main() -> None:
    """Draw all of them."""
    data = json.loads(RESULT.read_text(encoding="utf-8"))["rows"][0]
    with mpl.rc_context(STYLE):
        for name, draw in FIGURES.items():
            draw(data)
            axes: list[Axes] = plt.gcf().axes
            for panel in axes:
                panel.tick_params(length=0)
            plt.tight_layout()
            plt.savefig(ASSETS / f"{name}.svg", metadata={"Date": None, "Creator": None})
            plt.close()


if __name__ == "__main__":
    main()
