"""The engine `llamacpp` beside `eager`: tokens a second of policies on the bundled pair, and where the time goes.

Engines, policies and temperatures alternate in one process, on the same prompts and seeds. With one thread the time of
the processor is what a free machine would take, whoever else is on this one; wall time is told beside it. With
`--gguf FILE` a model of your own runs by itself and with `prompt_lookup`, on a prompt that repeats itself. Needs
stopkit[llamacpp].
`python benchmarks/on_llama_cpp.py` writes benchmarks/results/llamacpp.json.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console

import stopkit
from stopkit import Engine
from stopkit.conditions import conditions
from stopkit.pair.corpus import held_out_prompts
from stopkit.spec import load_policy, parse_spec
from stopkit.statistics import Statistics
from stopkit.tables import Column, number, table, text

RESULTS = Path(__file__).parent / "results"
POLICIES = ("autoregressive", "static:length=2", "adaedl", "goodput")
LOOKUPS = ("autoregressive", "static:length=4", "static:length=8")
TEMPERATURES = (0.0, 1.0)
REPEATED = "".join(f"person {at}: name = Anna, age = {20 + at}, town = Paris;\n" for at in range(8))


class Run(NamedTuple):
    """What one generation took."""

    stats: Statistics
    cpu: float
    """Seconds of the processor, of all threads."""


class Runs(NamedTuple):
    """An engine, and what it is to do."""

    name: str
    engine: Engine
    policies: Sequence[str]
    prompts: Sequence[str]


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gguf", type=Path, help="a model to run with prompt_lookup, besides the bundled pair")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--out", type=Path, default=RESULTS / "llamacpp.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    several = list(engines(arguments))
    rows = measure(several, arguments.repeats, arguments.tokens)
    config = vars(arguments) | {"gguf": arguments.gguf and arguments.gguf.name, "out": arguments.out.name}
    loaded = {each.name: each.engine.loaded() for each in several}
    arguments.out.write_text(
        json.dumps({"conditions": conditions(**config, loaded=loaded), "rows": rows}, indent=1) + "\n"
    )
    show(rows)


def engines(arguments: argparse.Namespace) -> Iterator[Runs]:
    """What is compared."""
    prompts = held_out_prompts(arguments.prompts)
    yield Runs("eager", stopkit.load_engine({"kind": "eager"}), POLICIES, prompts)
    yield Runs("llamacpp", stopkit.load_engine({"kind": "llamacpp"}), POLICIES, prompts)
    if arguments.gguf:
        block = {"kind": "llamacpp", "target": str(arguments.gguf), "draft": {"kind": "prompt_lookup"}}
        yield Runs(f"llamacpp, {arguments.gguf.stem}", stopkit.load_engine(block), LOOKUPS, [REPEATED])


def measure(several: Sequence[Runs], repeats: int, tokens: int) -> list[dict[str, Any]]:
    """A row for every engine, policy and temperature."""
    cells = [(runs, *cell) for runs in several for cell in product(runs.policies, TEMPERATURES)]
    measured: dict[Any, list[Run]] = {(runs.name, policy, heat): [] for runs, policy, heat in cells}
    for repeat in range(repeats + 1):
        for runs, policy, heat in cells:
            options = {"temperature": heat, "max_new_tokens": tokens, "batch_size": 1}
            chosen = load_policy(parse_spec(policy, "policy"))
            begun = time.process_time()
            stats = runs.engine.generate(runs.prompts, chosen, seed=repeat, **options).stats
            if repeat:  # the first is the warm-up
                measured[runs.name, policy, heat].append(Run(stats, time.process_time() - begun))
    return [row(*cell, measured) for cell in measured]


def row(engine: str, policy: str, heat: float, measured: Mapping[Any, Sequence[Run]]) -> dict[str, Any]:
    """Medians over the repeats; the speed-up is taken within each."""
    own, alone = ([(run, _cpu(run)) for run in measured[engine, name, heat]] for name in (policy, "autoregressive"))
    speedups = [other / mine for (_, mine), (_, other) in zip(own, alone, strict=True)]
    several, cpu = [run.stats for run, _ in own], [mine for _, mine in own]
    return {
        "engine": engine,
        "policy": policy,
        "temperature": heat,
        "cpu_ms_per_token": statistics.median(cpu),
        "spread": (max(cpu) - min(cpu)) / 2,
        "speedup": statistics.median(speedups),
        "tokens_per_second": statistics.median(stats.tokens_per_second for stats in several),
        "acceptance_rate": statistics.median(stats.acceptance_rate for stats in several),
        "draft_ms": _milliseconds(several, "draft", "draft_forwards"),
        "verify_ms": _milliseconds(several, "verify", "target_forwards"),
        "policy_ms": _milliseconds(several, "policy", "drafted"),
        "other_ms": _milliseconds(several, "other", "rounds"),
    }


def _cpu(run: Run) -> float:
    """Milliseconds of the processor for a token."""
    return 1e3 * run.cpu / run.stats.tokens


def _milliseconds(several: Sequence[Statistics], phase: str, of: str) -> float | None:
    """Of a phase, for each of what it is counted by; None where there is none."""
    each = [1e3 * stats.seconds[phase] / getattr(stats, of) for stats in several if getattr(stats, of)]
    return statistics.median(each) if each else None


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the table."""

    def shown(name: str) -> Column:
        return Column(name.replace("_", " "), name, lambda row: "" if row[name] is None else f"{row[name]:.2f}")

    names = ("cpu_ms_per_token", "spread", "speedup", "tokens_per_second", "acceptance_rate", "verify_ms", "draft_ms")
    columns = (text("engine", "engine"), text("policy", "policy"), number("T", "temperature", "{:g}"))
    Console().print(table(rows, (*columns, *map(shown, names))))


if __name__ == "__main__":
    main()
