"""The experiment of AdaEDL's paper in its own form, by replay: three rules, three longest drafts, four temperatures.

Base-SPD drafts L tokens, Max-Confidence and AdaEDL at most L, for L = 3, 7 and 16. λ of both moves by Algorithm 1, from
its default and from the best of eight initial values, chosen after the fact as in the paper. All are replayed on the
bundled pair at the costs of the paper's models, which its own tables give away: see `fitted`. `goodput`, which has
nothing to set, and the best constant length stand beside them.

`python benchmarks/paper.py` records what is missing, replays, prints, and writes benchmarks/results/paper.json. It is
what the page docs/explanation/paper.md shows.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import stopkit
from shelf import by_temperature, recorded
from stopkit.conditions import conditions
from stopkit.costs import FixedCosts
from stopkit.intervals import interval, resampled
from stopkit.pair.corpus import held_out_prompts
from stopkit.tables import console, number, table, text
from stopkit.trace.bounds import autoregressive, best_static
from stopkit.trace.replay import Replay, replay
from stopkit.trace.trace import Trace

RESULTS = Path(__file__).parent / "results"
TEMPERATURES = (0.7, 1.0, 1.3, 1.7)
LENGTHS = (3, 7, 16)
THRESHOLDS = [round(0.1 * step, 1) for step in range(2, 10)]
RULES = {"max_confidence": "max_probability:update=algorithm1", "adaedl": "adaedl:update=algorithm1"}
"""By the paper's names. `max_draft` and `threshold` are added."""
DRAFTS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Draft costs that stand for the paper's drafts of many sizes, at L = 7 and temperature 1."""
SPEEDS: Mapping[str, Mapping[int, float]] = {
    "CNN-DM": {0: 25.74, 3: 54.10, 7: 51.50, 16: 36.30},
    "Dolly-15k": {0: 29.02, 3: 54.70, 7: 47.60, 16: 32.10},
    "WMT-19": {0: 29.80, 3: 40.90, 7: 32.70, 16: 22.30},
}
"""Tokens per second of Llama2-7B with a draft of 115M at temperature 0.7, by constant length; 0 is autoregressive."""
Row = dict[str, Any]


def main() -> None:
    """Record what is missing, replay, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, help="folder of finished traces, one a temperature; records nothing")
    parser.add_argument("--record", type=Path, default=Path("runs/paper"), help="folder to record to, or go on in")
    parser.add_argument("--count", type=int, default=32, help="held-out prompts")
    parser.add_argument("--tokens", type=int, default=128, help="most tokens of a recorded sequence")
    parser.add_argument("--out", type=Path, default=RESULTS / "paper.json")
    asked = parser.parse_args()
    if asked.traces:
        files = list(asked.traces.glob("*.parquet"))
    else:
        files = recorded(asked.record, TEMPERATURES, held_out_prompts(asked.count), asked.tokens)
    fits = {column: fitted(speeds) for column, speeds in SPEEDS.items()}
    cost = sorted(fit["draft_cost"] for fit in fits.values())[1]
    rows, drafts, about = [], [], []
    for trace in by_temperature(files):
        rows += cells(trace, FixedCosts(draft_step=cost, verify=1.0))
        if trace.metadata.sampling.temperature == 1:
            drafts = by_draft_cost(trace)
        recording = trace.metadata.model_dump(mode="json")
        about.append({"sequences": len(trace.sequences), "tokens": trace.tokens, "recording": recording})
        print(f"temperature {trace.metadata.sampling.temperature:g}: {trace.tokens:,} tokens", flush=True)
    found = conditions(traces=about, thresholds=THRESHOLDS, draft_cost=cost)
    show(rows)
    asked.out.write_text(
        json.dumps({"conditions": found, "fits": fits, "rows": rows, "drafts": drafts}, indent=1) + "\n"
    )


def fitted(speeds: Mapping[int, float]) -> Row:
    """What a draft step costs in target steps, and how often a token is accepted, by the speeds of constant lengths.

    If every token is accepted with the same probability a, a round of length L gives (1 − a^(L + 1)) / (1 − a) tokens
    and takes 1 + L · c target steps. Of all a and c, those with the smallest relative errors, squared and summed.
    """
    measured = {length: speed / speeds[0] for length, speed in speeds.items() if length}

    def off(a: float, c: float) -> float:
        return sum((_expected(length, a, c) / speedup - 1) ** 2 for length, speedup in measured.items())

    grid = [(a / 1000, c / 1000) for a in range(300, 980, 5) for c in range(0, 400, 2)]
    a, c = min(grid, key=lambda point: off(*point))
    return {"acceptance": a, "draft_cost": c, "speedups": {str(length): _expected(length, a, c) for length in measured}}


def _expected(length: int, a: float, c: float) -> float:
    return (1 - a ** (length + 1)) / (1 - a) / (1 + length * c)


def cells(trace: Trace, costs: FixedCosts) -> list[Row]:
    """A row for every rule and longest draft at this temperature."""
    temperature = trace.metadata.sampling.temperature
    beside = {
        "autoregressive": autoregressive(trace, costs),
        "best static": best_static(trace, costs),
        "goodput": one(trace, "goodput", costs),
    }
    rows = []
    for longest in LENGTHS:
        done = {"static": one(trace, f"static:length={longest}", costs), **beside}
        chosen: dict[str, float] = {}
        for rule, spec in RULES.items():
            done[rule] = one(trace, f"{spec},max_draft={longest}", costs)
            swept = {at: one(trace, f"{spec},max_draft={longest},threshold={at}", costs) for at in THRESHOLDS}
            chosen[f"{rule}, tuned"] = max(swept, key=lambda at: swept[at].speedup)
            done[f"{rule}, tuned"] = swept[chosen[f"{rule}, tuned"]]
        rows += [
            {
                "temperature": temperature,
                "longest": longest,
                "rule": rule,
                "threshold": chosen.get(rule),
                "speedup": replayed.speedup,
                "interval": interval(resampled(replayed.work, 1.0)),
                "over_static": compared(replayed, done["static"]),
                "over_best_static": compared(replayed, done["best static"]),
                "over_max_confidence": compared(replayed, done["max_confidence, tuned"]),
            }
            for rule, replayed in done.items()
        ]
    return rows


def by_draft_cost(trace: Trace) -> list[Row]:
    """Static, AdaEDL and `goodput` at L = 7, for drafts that cost more and more."""
    return [
        {
            "draft_cost": cost.draft_step,
            **{
                name: one(trace, spec, cost).speedup
                for name, spec in (("static", "static:length=7"), ("adaedl", RULES["adaedl"]), ("goodput", "goodput"))
            },
        }
        for cost in (FixedCosts(draft_step=each, verify=1.0) for each in DRAFTS)
    ]


def one(trace: Trace, spec: str, costs: FixedCosts) -> Replay:
    """The replay of one policy."""
    return replay(trace, stopkit.load_policy(spec), [costs])[0]


def compared(replayed: Replay, other: Replay) -> Row:
    """How much faster than another, with its interval over the sequences, which both met."""
    ratio = resampled(replayed.work, 1.0) / resampled(other.work, 1.0)
    return {"ratio": replayed.speedup / other.speedup, "interval": interval(ratio)}


COLUMNS = (
    number("L", "longest", "{:d}"),
    text("rule", "rule"),
    number("speed-up", "speedup", "{:.3f}"),
    text("threshold", "threshold", right=True),
)


def show(rows: Sequence[Row]) -> None:
    """Print them."""
    console().print(table(rows, COLUMNS, "temperature"))


if __name__ == "__main__":
    main()
