"""The whole shelf on the bundled pair, by replay: `goodput` beside all others, with their defaults and tuned.

A trace for each temperature, recorded here or given. Replayed at every pair of costs: every registered policy with its
defaults, the rules with one parameter over its range (`SWEPT`), and the bounds. *Best other* is the fastest of all that
are not `goodput`, chosen anew in every cell, that is temperature and pair of costs, after the fact: no rule that must
be chosen beforehand does as well. The constant lengths among them are the bound `best_static`.

`python benchmarks/shelf.py` records, replays, prints the ratios and writes benchmarks/results/goodput.json: conditions,
ratios, and rows as `stopkit trace replay --json` has them, without lists and what is the same in all. Of a rule over
its range, the best of each cell has a row, with the rule under `tuned`. `python docs/figures.py` draws the figures.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import stopkit
from stopkit.conditions import conditions
from stopkit.generation import GenerationOptions
from stopkit.kinds import as_block
from stopkit.pair.corpus import held_out_prompts
from stopkit.prompts import read_prompts
from stopkit.tables import Column, console, number, table, text
from stopkit.trace.comparison import TraceComparison, servable
from stopkit.trace.costs import DRAFT_COSTS, cost_grid
from stopkit.trace.recording import Recording
from stopkit.trace.trace import Trace

RESULTS = Path(__file__).parent / "results"
TEMPERATURES = (0.0, 0.7, 1.0, 1.3)
VERIFY_COSTS = (0.02, 0.15)
SUBJECT = "goodput"
STOP_TOKENS = ("include", "exclude")
SWEPT = [
    *(f"adaedl:update=fixed,stop_token={stop}" for stop in STOP_TOKENS),
    *(f"{rule}:stop_token={stop}" for rule in ("max_probability", "margin") for stop in STOP_TOKENS),
    *("drawn_probability", "svip", "joint_confidence"),
]
THRESHOLDS = [round(0.05 * step, 2) for step in range(1, 20)]
NOT_OTHERS = {SUBJECT, "hindsight", "clairvoyant"}
CELL = ("temperature", "draft_cost", "verify_cost")
LEFT_OUT = (
    *("offered_by_position", "accepted_by_position", "seconds", "tokens_per_second", "nonfinite_drafts"),
    *("engine", "batch_size"),
)
Row = dict[str, Any]


def main() -> None:
    """Record what is missing, replay, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, help="folder of finished traces, one a temperature; records nothing")
    parser.add_argument("--record", type=Path, default=Path("runs/shelf"), help="folder to record to, or go on in")
    parser.add_argument("--prompts", type=Path, help="what to record after; held-out code if unset")
    parser.add_argument("--count", type=int, default=64, help="held-out prompts")
    parser.add_argument("--tokens", type=int, default=160, help="most tokens of a recorded sequence")
    parser.add_argument("--first", type=int, help="replay only the first tokens of each sequence")
    parser.add_argument("--sequences", type=int, help="replay only the first sequences")
    parser.add_argument("--out", type=Path, default=RESULTS / "goodput.json")
    asked = parser.parse_args()
    rows: list[Row] = []
    about: list[dict[str, Any]] = []
    for trace in by_temperature(asked.traces.glob("*.parquet") if asked.traces else _recorded(asked)):
        trace = trace.select(range(min(asked.sequences or len(trace.sequences), len(trace.sequences))))
        trace = trace.shortened(asked.first) if asked.first else trace
        began = time.perf_counter()
        found, config = shelf(trace)
        rows += found
        about.append(config)
        took = time.perf_counter() - began
        print(f"temperature {trace.metadata.sampling.temperature:g}: {trace.tokens:,} tokens, {took:.0f} s", flush=True)
    ratios = [ratio for cost, against in product(VERIFY_COSTS, AGAINST) for ratio in compared(rows, cost, against)]
    report(ratios)
    asked_for = {"first": asked.first, "swept": SWEPT, "thresholds": THRESHOLDS, "traces": about}
    save(asked.out, {"conditions": conditions(**asked_for), "ratios": ratios, "rows": rows})


def _recorded(asked: argparse.Namespace) -> list[Path]:
    prompts = [one.text for one in read_prompts(asked.prompts)] if asked.prompts else held_out_prompts(asked.count)
    return recorded(asked.record, TEMPERATURES, prompts, asked.tokens)


def recorded(folder: Path, temperatures: Iterable[float], prompts: Sequence[str], tokens: int) -> list[Path]:
    """A trace a temperature in `folder`; what is there is kept, and what is unfinished is finished."""
    engine = stopkit.load_engine("eager")
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for temperature in temperatures:
        files.append(folder / f"{temperature:g}.parquet")
        print(f"recording {files[-1]}", flush=True)
        options = GenerationOptions(temperature=temperature, max_new_tokens=tokens)
        Recording(engine, prompts, options).run(files[-1], resume=True)
    return files


def by_temperature(files: Iterable[Path]) -> list[Trace]:
    """The traces, coldest first. Exits if there are none, or two of a temperature."""
    traces = sorted(map(Trace.open, files), key=lambda trace: trace.metadata.sampling.temperature)
    temperatures = [trace.metadata.sampling.temperature for trace in traces]
    if not traces or len(set(temperatures)) < len(traces):
        raise SystemExit(f"--traces: needs a trace a temperature, and has those of {temperatures or 'none'}.")
    return traces


def shelf(trace: Trace) -> tuple[list[Row], dict[str, Any]]:
    """The rows of one trace, and what they are of."""
    policies, left_out = servable(trace)
    swept = {f"{rule}{',' if ':' in rule else ':'}threshold={at}": rule for rule in SWEPT for at in THRESHOLDS}
    everything = policies | {spec: stopkit.load_policy(spec) for spec in swept}
    comparison = TraceComparison(trace, everything, cost_grid(DRAFT_COSTS, VERIFY_COSTS))
    rows = comparison.rows(dict(comparison.replays()))
    metadata = trace.metadata.model_dump(mode="json")
    config = {"policy": {name: as_block(policy) for name, policy in policies.items()}, "left_out": left_out}
    about = {"sequences": len(trace.sequences), "tokens": trace.tokens, "recording": metadata}
    return [compact(row) for row in best_of_swept(rows, swept)], about | config


def best_of_swept(rows: Iterable[Row], swept: dict[str, str]) -> list[Row]:
    """`rows` with, of every rule in `swept` (by spec), the fastest of each cell alone."""
    kept: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        rule = swept.get(row["policy"])
        key = (*cell(row), rule or row["policy"], rule is None)
        row = row | {"tuned": rule} if rule else row
        if key not in kept or row["speedup"] > kept[key]["speedup"]:
            kept[key] = row
    return list(kept.values())


def compact(row: Row) -> Row:
    """Without what the figures do not need, and with numbers to six digits."""
    short = {name: value for name, value in row.items() if name not in LEFT_OUT}
    return {name: float(f"{value:.6g}") if isinstance(value, float) else value for name, value in short.items()}


def cell(row: Row) -> tuple[float, ...]:
    """What a row's figures are about."""
    return tuple(row[name] for name in CELL)


def best_other(rows: Iterable[Row]) -> Row:
    """The fastest of a cell that is neither `goodput` nor a bound that no policy reaches."""
    return max((row for row in rows if row["policy"] not in NOT_OTHERS), key=lambda row: row["speedup"])


def of_name(name: str) -> Callable[[Iterable[Row]], Row]:
    """Picks the row of a policy or bound, with its defaults."""
    return lambda rows: next(row for row in rows if row["policy"] == name)


AGAINST: dict[str, Callable[[Iterable[Row]], Row]] = {
    "adaedl": of_name("adaedl"),
    "best other, tuned in every cell": best_other,
    "clairvoyant": of_name("clairvoyant"),
}


def compared(rows: Sequence[Row], verify_cost: float, against: str) -> list[Row]:
    """The speed-up of `goodput` over that of another: geometric means over draft costs, of all and by temperature."""
    cells: dict[tuple[float, ...], list[Row]] = {}
    for row in rows:
        if row["verify_cost"] == verify_cost:
            cells.setdefault(cell(row), []).append(row)
    found: dict[tuple[float, ...], tuple[float, str]] = {}
    for key, group in cells.items():
        other = AGAINST[against](group)
        found[key] = of_name(SUBJECT)(group)["speedup"] / other["speedup"], other["policy"]
    temperatures = sorted({key[0] for key in found})
    parts = {"all": temperatures} | {f"{temperature:g}": [temperature] for temperature in temperatures}
    means = {name: _means(found, part) for name, part in parts.items()}
    return [
        {"against": against, "verify_cost": verify_cost, "temperature": name, **mean} for name, mean in means.items()
    ]


def _means(found: dict[tuple[float, ...], tuple[float, str]], temperatures: list[float]) -> Row:
    chosen = {key: ratio for key, (ratio, _) in found.items() if key[0] in temperatures}
    worst = min(chosen, key=lambda key: chosen[key])
    return {
        "geometric_mean": round(geometric_mean(chosen.values()), 4),
        "worst": round(chosen[worst], 4),
        "worst_cell": dict(zip(CELL, worst, strict=True)) | {"other": found[worst][1]},
    }


COLUMNS = (
    text("goodput /", "against"),
    text("temperature", "temperature", right=True),
    number("geometric mean", "geometric_mean", "{:.3f}"),
    number("worst cell", "worst", "{:.3f}"),
    Column("at draft cost", "worst_cell", lambda row: f"{row['worst_cell']['draft_cost']:g}"),
    Column("against", "worst_cell", lambda row: str(row["worst_cell"]["other"]), right=False),
)


def report(ratios: Sequence[Row]) -> None:
    """Print them."""
    console().print(table(ratios, COLUMNS, "verify_cost"))


def save(path: Path, document: dict[str, Any]) -> None:
    """As JSON, with a line for each ratio and row."""
    lists = {name: ",\n".join(map(json.dumps, document[name])) for name in ("ratios", "rows")}
    parts = [f'"conditions": {json.dumps(document["conditions"])}']
    parts += [f'"{name}": [\n{lines}\n]' for name, lines in lists.items()]
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
