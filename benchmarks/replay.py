"""How much faster a replay is than decoding: tokens per second of policies on a trace, and of the eager engine.

The trace is one of the bundled pair. Decoding (`adaedl`, one prompt at a time) and the replays alternate in one
process, and a factor is the median over the repeats of the ratio within a repeat. A replay at n pairs of costs decides
n times its tokens. `python benchmarks/replay.py t.parquet` writes benchmarks/results/replay.json.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import stopkit
from stopkit.conditions import conditions
from stopkit.pair.corpus import held_out_prompts
from stopkit.trace.costs import DRAFT_COSTS, cost_grid
from stopkit.trace.replay import replay
from stopkit.trace.trace import Trace

RESULTS = Path(__file__).parent / "results"
POLICIES = ("adaedl", "ema_length", "best_length", "goodput")
"""One that learns in a sequence at most, one that carries over, and two that carry over and look at costs."""
COSTS = {"one pair": cost_grid([0.1], [0.02]), "ten pairs": cost_grid(DRAFT_COSTS, [0.02, 0.15])}
PROMPTS, TOKENS = 4, 64


def rate(work: Callable[[], int]) -> float:
    began = time.perf_counter()
    return work() / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace")
    parser.add_argument("--policy", nargs="+", default=POLICIES)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    trace, prompts = Trace.open(asked.trace), held_out_prompts(PROMPTS)
    temperature = trace.metadata.sampling.temperature
    engine, adaedl = stopkit.load_engine("eager"), stopkit.load_policy("adaedl")

    def decoded() -> int:
        made = (engine.generate(p, adaedl, temperature=temperature, max_new_tokens=TOKENS) for p in prompts)
        return sum(result.stats.tokens for result in made)

    def replayed(name: str, costs: str) -> int:
        return sum(found.stats.tokens for found in replay(trace, stopkit.load_policy(name), COSTS[costs]))

    cells = [(name, costs) for name in asked.policy for costs in COSTS]
    decoded()
    for cell in cells:
        replay(trace.select([0]), stopkit.load_policy(cell[0]), COSTS[cell[1]])
    decoding, replays = [], {cell: [] for cell in cells}
    for _ in range(asked.repeats):
        decoding.append(rate(decoded))
        for cell in cells:
            replays[cell].append(rate(lambda cell=cell: replayed(*cell)))
    rows = [{"engine": "eager", "policy": "adaedl", "tokens_per_second": decoding}]
    for (name, costs), rates in replays.items():
        factors = [one / other for one, other in zip(rates, decoding, strict=True)]
        row = {"engine": "replay", "policy": name, "costs": costs, "tokens_per_second": rates}
        rows.append(row | {"factor": statistics.median(factors), "factor_range": [min(factors), max(factors)]})
        print(f"{name}, {costs}: {statistics.median(rates):,.0f} tokens a second, {rows[-1]['factor']:.0f} × decoding")
    about = {"tokens": trace.tokens, "sequences": len(trace.sequences), "temperature": temperature}
    document = {"conditions": conditions(trace=about, repeats=asked.repeats), "rows": rows}
    (RESULTS / "replay.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
