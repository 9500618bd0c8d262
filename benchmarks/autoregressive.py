"""What the engine costs when it does not speculate: `static:length=0` against transformers' own `generate`.

Same target, same prompts, same number of tokens, greedy; runs alternate in one process and medians of the repeats are
compared. `python benchmarks/autoregressive.py` writes benchmarks/results/autoregressive.json.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

import stopkit
from stopkit.conditions import conditions
from stopkit.pair.corpus import held_out_prompts

RESULTS = Path(__file__).parent / "results"


def ours(engine: Any, prompt: list[int], count: int) -> list[int]:
    tokens: list[int] = engine.generate([prompt], "autoregressive", temperature=0, max_new_tokens=count).tokens[0]
    return tokens


def theirs(engine: Any, prompt: list[int], count: int) -> list[int]:
    model = engine.models.target
    ids = torch.tensor([prompt], device=model.device)
    mask = torch.ones_like(ids)
    output = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=count)
    return list(output[0, len(prompt) :].tolist())


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    engine = stopkit.load_engine("eager")
    prompts = [engine.models.tokenizer(text)["input_ids"] for text in held_out_prompts(arguments.prompts)]  # type: ignore[attr-defined]
    speeds: dict[str, list[float]] = {"stopkit": [], "transformers": []}
    for repeat in range(arguments.repeats + 1):
        seconds, tokens = dict.fromkeys(speeds, 0.0), dict.fromkeys(speeds, 0)
        for prompt in prompts:
            outputs = []
            for name, run in (("stopkit", ours), ("transformers", theirs))[:: 1 if repeat % 2 else -1]:
                began = time.perf_counter()
                outputs.append(run(engine, prompt, arguments.tokens))
                seconds[name] += time.perf_counter() - began
                tokens[name] += len(outputs[-1])
            assert outputs[0] == outputs[1], "greedy outputs differ"
        if repeat:  # the first is the warm-up
            for name in speeds:
                speeds[name].append(tokens[name] / seconds[name])
    ratios = [a / b for a, b in zip(speeds["stopkit"], speeds["transformers"], strict=True)]
    row = {
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "tokens_per_second": {name: statistics.median(values) for name, values in speeds.items()},
        "repeats": arguments.repeats,
    }
    print(json.dumps(row, indent=1))
    RESULTS.mkdir(exist_ok=True)
    result = {"conditions": conditions(**vars(arguments)), "rows": [row]}
    (RESULTS / "autoregressive.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
