"""What stopping rules see on the bundled pair, and whether it is true: the data of the figures in docs/explanation.

* calibration: at every token that the target itself sampled after held-out prompts, the draft's entropy, largest
  probability, margin and the probability of a drawn token, each in bins, with the exact acceptance probability
  Σ min(p, q) in each bin; for drawn tokens min(1, p(x) / q(x)), weighted by q(x).
* blocks: blocks of a constant length; how often the first n tokens were all accepted, by position and by Π max q.
* paths: what learning rules made of the same prompts, one after another, round by round.

`python benchmarks/rules.py` writes benchmarks/results/rules.json.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import stopkit
from stopkit import DraftController, Engine, State
from stopkit.conditions import conditions
from stopkit.pair.corpus import held_out_prompts
from stopkit.sampling import Sampling
from stopkit.signals import entropy, margin, max_probability

RESULTS = Path(__file__).parent / "results"
TEMPERATURES = (0.0, 0.7, 1.0)
QUANTILES = (0.1, 0.5, 0.9)
EDGES = {"entropy": torch.linspace(0, 6, 25), "probability": torch.linspace(0, 1, 21)}
BLOCK = 8
PATHS = {
    "adaedl": [f"adaedl:threshold={start},carry_over=true" for start in (0.3, 0.5, 0.7, 0.9)],
    "lengths": ["heuristic:carry_over=true", "ema_length", "best_length"],
    "bandit": ["bandit", "bandit:algorithm=hedge"],
}


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--tokens", type=int, default=160)
    arguments = parser.parse_args()
    engine = stopkit.load_engine({"kind": "eager", "costs": {"draft_step": 0.1, "verify": 1.0, "verify_token": 0.02}})
    prompts = [engine.models.tokenizer(text)["input_ids"] for text in held_out_prompts(arguments.prompts)]  # type: ignore[attr-defined]
    found: dict[str, Any] = {"calibration": {}, "blocks": {}}
    for temperature in TEMPERATURES:
        rows = list(positions(engine, prompts, temperature, arguments.tokens))
        found["calibration"][temperature] = calibration(rows, greedy=temperature == 0)
        found["blocks"][temperature] = blocks(engine, prompts, temperature, arguments.tokens)
        print(f"temperature {temperature}: {sum(len(row['beta']) for row in rows)} positions")
    long = prompts[: arguments.prompts // 3]
    found["paths"] = {name: paths(engine, specs, long, arguments.tokens) for name, specs in PATHS.items()}
    RESULTS.mkdir(exist_ok=True)
    result = {"conditions": conditions(**vars(arguments), engine=engine.costs.model_dump()), "rows": [rounded(found)]}  # type: ignore[union-attr]
    (RESULTS / "rules.json").write_text(json.dumps(result) + "\n")


def rounded(value: Any) -> Any:
    """With numbers to four decimals, as many as a figure shows."""
    if isinstance(value, dict):
        return {str(key): rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return round(value, 4) if isinstance(value, float) else value


@torch.inference_mode()
def positions(engine: Any, prompts: list[list[int]], temperature: float, count: int) -> Iterator[dict[str, Tensor]]:
    """Signals and acceptance at every token the target samples; one dict a prompt."""
    sampling = Sampling(temperature=temperature)
    for prompt, seed in zip(prompts, range(len(prompts)), strict=True):
        tokens = engine.generate([prompt], "autoregressive", temperature=temperature, max_new_tokens=count, seed=seed)
        whole = torch.tensor([[*prompt, *tokens.tokens[0]]])
        target, draft = (
            model(input_ids=whole).logits[0, len(prompt) - 1 : -1]
            for model in (engine.models.target, engine.models.draft)
        )
        p, q = sampling.probabilities(target), sampling.probabilities(draft)
        shown = sampling.shown(draft, q)
        yield {
            "entropy": entropy(shown),
            "max_probability": max_probability(shown),
            "margin": margin(shown),
            "beta": torch.minimum(p, q).sum(-1),
            "shown": shown,
            "p": p,
            "q": q,
        }


def calibration(rows: list[dict[str, Tensor]], greedy: bool) -> dict[str, Any]:
    """Mean acceptance by each score, in bins."""
    beta = torch.cat([row["beta"] for row in rows])
    scores = {name: torch.cat([row[name] for row in rows]) for name in ("entropy", "max_probability", "margin")}
    found = {name: binned(score, beta, torch.ones_like(beta)) for name, score in scores.items()}
    drawn, accepted, weight = (torch.cat(parts) for parts in zip(*map(drawings, rows), strict=True))
    found["drawn_probability"] = binned(drawn, accepted, weight)
    estimate = 1 - (0.2 * scores["entropy"]).sqrt()
    return {
        "scores": found,
        "mean": beta.mean().item(),
        "adaedl_estimate": estimate.mean().item(),
        "adaedl_above_truth": (estimate > beta).double().mean().item(),
        "greedy": greedy,
    }


def drawings(row: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Every token that could be drawn: its shown probability, min(1, p / q), and q, its weight."""
    likely = row["q"] > 1e-4
    q = row["q"][likely]
    return row["shown"][likely], (row["p"][likely] / q).clamp(max=1), q


def binned(score: Tensor, value: Tensor, weight: Tensor) -> list[dict[str, Any]]:
    """Weight, mean and quantiles of `value` by `score`; bins without weight are left out."""
    edges = EDGES["entropy" if score.max() > 1 else "probability"]
    which = torch.bucketize(score.contiguous(), edges[1:-1])
    return [
        {
            "from": edges[number].item(),
            "to": edges[number + 1].item(),
            "weight": weight[inside].sum().item(),
            "mean": (value[inside] * weight[inside]).sum().item() / weight[inside].sum().item(),
            "score": (score[inside] * weight[inside]).sum().item() / weight[inside].sum().item(),
            "quantiles": value[inside].quantile(torch.tensor(QUANTILES)).tolist() if inside.sum() < 1_000_000 else None,
        }
        for number in range(len(edges) - 1)
        if (inside := which == number).any()
    ]


class Watch(stopkit.StoppingPolicy):
    """Blocks of one length; what was seen and accepted is told."""

    kind = "watch"
    signals = frozenset({"max_probability"})
    length: int = BLOCK
    told: list[tuple[list[float], int]]

    def plan(self, state: State, context: Any) -> tuple[Tensor, State]:
        return context.limit.clamp(max=self.length), state

    def learn(self, state: State, outcome: Any) -> State:
        drafted = int(outcome.drafted[0])
        seen = [float(signals.max_probability[0]) for signals in outcome.signals[:drafted]]
        self.told.append((seen, int(outcome.accepted[0])))
        return state


def blocks(engine: Engine, prompts: list[list[int]], temperature: float, count: int) -> dict[str, Any]:
    """Survival by position, and by the product of the largest probabilities."""
    told: list[tuple[list[float], int]] = []
    policy = Watch.model_construct(length=BLOCK, told=told)
    for seed, prompt in enumerate(prompts):
        engine.generate([prompt], policy, temperature=temperature, max_new_tokens=count, seed=seed)
    whole = [(seen, accepted) for seen, accepted in told if len(seen) == BLOCK]
    products = [
        (torch.tensor(seen[: n + 1]).prod(), float(accepted > n)) for seen, accepted in whole for n in range(BLOCK)
    ]
    score, survived = (torch.tensor(column) for column in zip(*products, strict=True))
    return {
        "survival": [sum(accepted > n for _, accepted in whole) / len(whole) for n in range(BLOCK)],
        "blocks": len(whole),
        "joint": binned(score, survived, torch.ones_like(score)),
    }


def paths(engine: Any, specs: list[str], prompts: list[list[int]], count: int) -> dict[str, Any]:
    """What each policy remembered before every round, over all prompts at temperature 0.7."""
    found = {}
    for spec in specs:
        policy, state, rounds = stopkit.load_policy(spec), None, []
        plan = DraftController.plan

        def watched(self: Any, context: Any, plan: Any = plan, rounds: Any = rounds) -> Any:
            drafts = plan(self, context)
            rounds.append(remembered(self.state, int(self._round.cap[0])))
            return drafts

        DraftController.plan = watched  # type: ignore[method-assign]
        try:
            for seed, prompt in enumerate(prompts):
                result = engine.generate(
                    [prompt], policy, temperature=0.7, max_new_tokens=count, seed=seed, state=state
                )
                state = result.state.outlived()
        finally:
            DraftController.plan = plan  # type: ignore[method-assign]
        found[spec] = {name: [row[name] for row in rounds] for name in rounds[0]}
    return found


def remembered(state: State, cap: int) -> dict[str, float]:
    """The numbers that a figure may show."""
    values = {**state.rows, **state.shared}
    names = ("threshold", "acceptance_rate", "length", "ema", "chosen")
    return {"cap": cap} | {name: float(values[name][0]) for name in names if name in values and values[name].ndim == 1}


if __name__ == "__main__":
    main()
