"""The model card: what a pair is and what was measured on it, as MODEL_CARD.md and card.json."""

import json
import platform
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedModel

from stopkit.pair.recipe import ModelSize, Schedule
from stopkit.pair.training import Progress, spread_windows
from stopkit.sampling import Sampling

TEMPERATURES = (0.0, 0.7, 1.0)
WINDOWS = 48
STEPS, WARM_UP = 64, 8


def describe(model: PreTrainedModel, size: ModelSize, schedule: Schedule, progress: Progress) -> dict[str, Any]:
    """One model's share of the figures: its shape and how it was trained."""
    return {
        **size.model_dump(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": progress.step,
        "tokens": progress.tokens,
        "minutes": progress.seconds / 60,
        "loss": progress.loss,
        "held_out_loss": progress.held_out_loss,
        "batch": schedule.batch,
        "learning_rate": schedule.learning_rate,
        "seed": schedule.seed,
    }


def known(folder: Path, name: str) -> dict[str, Any]:
    """The same of a model of the pair in `folder`, from its card."""
    figures: dict[str, Any] = json.loads((folder / "card.json").read_text(encoding="utf-8"))["models"][name]
    return figures


def measure(folder: Path, held_out: Tensor, context: int) -> dict[str, Any]:
    """What plain transformers measures in float32 on the pair in `folder`; `held_out` is 1-D, long."""
    target, draft = (
        AutoModelForCausalLM.from_pretrained(folder / name, dtype=torch.float32).eval() for name in ("target", "draft")
    )
    windows = spread_windows(held_out, context, WINDOWS)
    return {
        "acceptance_probability": {
            f"{temperature:g}": acceptance_probability(target, draft, windows, temperature)
            for temperature in TEMPERATURES
        },
        "step_milliseconds": {
            "target": step_milliseconds(target, windows[0]),
            "draft": step_milliseconds(draft, windows[0]),
        },
        "conditions": {
            "positions": windows.numel(),
            "cpu_threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "transformers": transformers.__version__,
        },
    }


@torch.inference_mode()
def acceptance_probability(target: Any, draft: Any, windows: Tensor, temperature: float) -> float:
    """β: the mean over all positions of `windows` [N, L] of Σ min(p, q), p and q at `temperature`."""
    probabilities = Sampling(temperature=temperature).probabilities
    shares = [
        torch.minimum(*(probabilities(model(input_ids=window).logits) for model in (target, draft))).sum(-1).mean()
        for window in torch.split(windows, 1)
    ]
    return float(torch.stack(shares).mean())


@torch.inference_mode()
def step_milliseconds(model: Any, tokens: Tensor) -> float:
    """Median milliseconds of a forward over one token at batch 1 with a DynamicCache, after half of `tokens` [L]."""
    prompt, following = torch.tensor_split(tokens, 2)
    cache = DynamicCache(config=model.config)
    # By position, because transformers 5.24 renamed the cache's argument.
    model(prompt.unsqueeze(0), None, None, cache, use_cache=True)
    times = []
    for token in torch.split(following[: WARM_UP + STEPS], 1):
        start = time.perf_counter()
        model(token.unsqueeze(0), None, None, cache, use_cache=True)
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times[WARM_UP:] or times)


def write(folder: Path, figures: dict[str, Any]) -> None:
    """Write the card and its figures into `folder`."""
    (folder / "card.json").write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "MODEL_CARD.md").write_text(text(figures), encoding="utf-8")


ROWS = (
    ("layers", "{layers}"),
    ("width", "{width}"),
    ("attention heads", "{heads}"),
    ("parameters", "{parameters:,}"),
    ("context, tokens", "{context}"),
    ("vocabulary, tokens", "{vocabulary}"),
    ("steps", "{steps:,}"),
    ("tokens seen", "{tokens:,}"),
    ("minutes", "{minutes:.1f}"),
    ("sequences a step", "{batch}"),
    ("peak learning rate", "{learning_rate:g}"),
    ("seed", "{seed}"),
    ("training loss, nats a token", "{loss:.3f}"),
    ("held-out loss, nats a token", "{held_out_loss:.3f}"),
    ("one step at batch 1, milliseconds", "{milliseconds:.2f}"),
)


DISTILLED = """
The draft learned the target's distribution, not the text: on {windows:,} windows of that text, of text that the target
was not trained on ({texts}; without tests of what is held out), and of {samples:,} tokens that the target said itself.
"""


def text(figures: dict[str, Any]) -> str:
    """The card in Markdown."""
    data, measured = figures["data"], figures["conditions"]
    models = [
        figures["models"][name] | {"milliseconds": figures["step_milliseconds"][name]} for name in ("target", "draft")
    ]
    table = _table(
        ("", "target", "draft"), [(title, *(form.format(**model) for model in models)) for title, form in ROWS]
    )
    beta = _table(
        ("temperature", "β"), [(at, f"{value:.3f}") for at, value in figures["acceptance_probability"].items()]
    )
    plan = figures.get("distillation")
    taught = DISTILLED.format(**plan, texts=", ".join(f"`{each}`" for each in plan["distil_on"])) if plan else ""
    modules = ", ".join(f"`{name}`" for name in data["held_out_modules"])
    return f"""# A target and a draft model for speculative decoding

Two Llama-type causal language models with tied embeddings and one byte-level BPE tokenizer, stored as float16
safetensors. They are small, and made to study speculative decoding rather than to be relied on.

## Data

Trained on {data["source"]}: {data["files"]:,} files, {data["tokens"]:,} tokens. Held out as whole files
({data["held_out_tokens"]:,} tokens): {modules}.
{taught}
## Models

{table}

## Acceptance probability

β is the mean over held-out positions of Σ min(p, q), the probability that the target accepts what the draft
proposes; at temperature 0, how often their most probable tokens agree.

{beta}

## Conditions

Measured with plain transformers {measured["transformers"]} and its DynamicCache in float32, torch {measured["torch"]},
Python {measured["python"]}, {measured["cpu_threads"]} CPU thread(s); β over {measured["positions"]:,} positions, steps
as the median of {STEPS} after {WARM_UP} that are not counted.

## Licence

{data["licence"]}
"""


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
