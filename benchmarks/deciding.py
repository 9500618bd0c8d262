"""What deciding costs: `admit` and `extend` of every policy per draft step, as a share of one draft forward.

The forward is the bundled draft's, at the same batch size, after a prompt of 64 tokens. Policies and forwards alternate
in one process; a share is the median over the repeats of the ratio within a repeat. With signals: what the policy reads
is computed too, from the distribution q that the engine has to make anyway.
`python benchmarks/deciding.py` writes benchmarks/results/deciding.json.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

import stopkit
from stopkit import Costs, Drawn, RoundContext, StoppingPolicy
from stopkit.conditions import conditions
from stopkit.pair.corpus import held_out_prompts
from stopkit.plugins import registry
from stopkit.signals import compute
from stopkit.tables import table, text
from stopkit_engines.hf.cached_model import CachedModel

RESULTS = Path(__file__).parent / "results"
BATCHES = (1, 16, 64)
VOCABULARIES = (4096, 32_000, 128_256)
PROMPT = 64
CALLS = 20
"""Calls in one timing."""
VARIANTS = (
    "drawn_probability:distribution=untempered,update=algorithm1",
    "drawn_probability:update=roc",
    "bandit:algorithm=hedge",
)
"""Settings that decide by other code than the defaults."""


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    with torch.inference_mode():
        rows = [row for batch in BATCHES for row in measure(batch, arguments.repeats)]
    RESULTS.mkdir(exist_ok=True)
    result = {"conditions": conditions(**vars(arguments)), "rows": rows}
    (RESULTS / "deciding.json").write_text(json.dumps(result, indent=1) + "\n")
    show(rows)


def measure(batch: int, repeats: int) -> list[dict[str, Any]]:
    """A row for every policy and vocabulary at this batch size."""
    draft, works = draft_step(batch), list(deciding(batch))
    shares: list[list[tuple[float, float]]] = [[] for _ in works]
    forwards = []
    for repeat in range(repeats + 1):
        for (*_, decide, signal), ratios in zip(works, shares, strict=True):
            forward, alone, signals = seconds(draft), seconds(decide), seconds(signal)
            if repeat:  # the first is the warm-up
                ratios.append((alone / forward, (alone + signals) / forward))
                forwards.append(forward)
    return [
        {
            "policy": name,
            "batch_size": batch,
            "vocabulary": vocabulary,
            "deciding": statistics.median(alone for alone, _ in ratios),
            "deciding_and_signals": statistics.median(both for _, both in ratios),
            "draft_forward_seconds": statistics.median(forwards),
        }
        for (name, vocabulary, *_), ratios in zip(works, shares, strict=True)
    ]


def deciding(batch: int) -> Iterator[tuple[str, int, Callable[[], Any], Callable[[], Any]]]:
    """Every policy and vocabulary, with what decides one step and what computes its signals."""
    for vocabulary, name in product(VOCABULARIES, (*registry().policies, *VARIANTS)):
        logits = torch.randn(batch, vocabulary, generator=torch.Generator().manual_seed(0)) * 3
        yield name, vocabulary, *step(stopkit.load_policy(name), logits)


def step(policy: StoppingPolicy, logits: Tensor) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """What decides one draft step, and what computes the signals for it."""
    batch, q = len(logits), logits.softmax(-1)
    cost = torch.tensor(0.01, dtype=torch.float64)
    context = RoundContext(torch.ones(batch, dtype=torch.bool), torch.full((batch,), 100), Costs(cost, cost, cost))
    _, state = policy.plan(policy.init(batch, logits.device), context)
    position = torch.zeros(batch, dtype=torch.long)
    token = q.argmax(-1)
    drawn = Drawn(token, q.gather(1, token.unsqueeze(1)).squeeze(1))

    def signal() -> Any:
        return compute(policy.required_signals, lambda: q, logits)

    signals = signal()

    def decide() -> None:
        _, admitted = policy.admit(state, position, signals)
        policy.extend(admitted, position, signals, drawn)

    return decide, signal


def draft_step(batch: int) -> Callable[[], Any]:
    """One forward of the bundled draft over one new token of each row."""
    models = stopkit.load_engine("eager").models  # type: ignore[attr-defined]
    prompt = models.tokenizer(held_out_prompts(1)[0])["input_ids"]
    tokens = torch.tensor([prompt]).repeat(1, PROMPT)[:, : PROMPT + 1].repeat(batch, 1)
    model = CachedModel(models.draft, models.draft.config.vocab_size, batch, PROMPT + 1, tokens.device)
    seen = torch.full((batch,), PROMPT)
    model.forward(tokens, seen, keep=1)

    def forward() -> None:
        model.forward(tokens, seen + 1, keep=1)
        model.rewind(seen)

    return forward


def seconds(work: Callable[[], Any]) -> float:
    """Seconds of one call, the mean over some."""
    began = time.perf_counter()
    for _ in range(CALLS):
        work()
    return (time.perf_counter() - began) / CALLS


def show(rows: list[dict[str, Any]]) -> None:
    """A row a policy, a column a batch size and vocabulary: the share alone, and with signals."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        cell = "{deciding:.1%} / {deciding_and_signals:.1%}".format(**row)
        found.setdefault(row["policy"], {"policy": row["policy"]})[title(row["batch_size"], row["vocabulary"])] = cell
    titles = [title(*size) for size in product(BATCHES, VOCABULARIES)]
    columns = [text("policy", "policy"), *(text(name, name, right=True) for name in titles)]
    Console(width=170).print(table(list(found.values()), columns))


def title(batch: int, vocabulary: int) -> str:
    """A column's."""
    return f"B = {batch}\nV = {vocabulary:,}"


if __name__ == "__main__":
    main()
