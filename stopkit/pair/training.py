"""Train one small Llama-type causal language model: the loop behind `stopkit train-pair`.

A run is a folder. `checkpoint/` in it holds weights, optimizer state and progress, and is replaced as a whole, so an
interrupted run goes on where it stopped.
"""

import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer
from transformers import LlamaConfig, LlamaForCausalLM

from stopkit.pair.lessons import Lessons, half_precision
from stopkit.pair.recipe import ModelSize, Schedule


def build(size: ModelSize, end_of_text: int) -> LlamaForCausalLM:
    """A freshly initialised model; seed torch before calling."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=size.vocabulary,
            hidden_size=size.width,
            intermediate_size=-(-size.width * 8 // 3 // 32) * 32,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            max_position_embeddings=size.context,
            tie_word_embeddings=True,
            bos_token_id=end_of_text,
            eos_token_id=end_of_text,
            pad_token_id=end_of_text,
        )
    )


@dataclass(frozen=True)
class Progress:
    """Where a run stands. Losses are in nats a token: that of the lessons, and the held-out text's likelihood."""

    step: int
    seconds: float
    tokens: int
    loss: float
    held_out_loss: float


def train(
    size: ModelSize,
    schedule: Schedule,
    lessons: Lessons,
    held_out: Tensor,
    end_of_text: int,
    folder: Path,
    *,
    begin: Path | None = None,
    resume: bool = False,
    on_progress: Callable[[Progress, float], None] = lambda progress, share: None,
    report_every_seconds: float = 60.0,
) -> tuple[LlamaForCausalLM, Progress]:
    """Train on `lessons`, watch `held_out` (1-D, long); returns the float32 model and its final progress.

    The weights at first are those in the file `begin`, which is of a model of that `size`, or drawn by the seed.
    `on_progress(progress, share)` is called about every `report_every_seconds` and at the end, after a checkpoint.
    """
    torch.manual_seed(schedule.seed)
    model = build(size, end_of_text)
    if begin:
        model.load_state_dict(load_file(begin), strict=False)  # the tied head is not stored twice
    optimizers = _optimizers(model)
    checkpoint = folder / "checkpoint"
    progress = Progress(0, 0.0, 0, math.nan, math.nan)
    if resume and (checkpoint / "progress.json").is_file():
        progress = _load_checkpoint(checkpoint, model, optimizers)
    losing = torch.compile(lessons.loss) if schedule.compile else lessons.loss
    began = last_report = time.monotonic() - progress.seconds
    step, running = progress.step, progress.loss

    while (share := schedule.progress(step, time.monotonic() - began)) < 1.0:
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(share)
        loss = _step(model, losing, lessons.batch(step), schedule.micro_batch)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        running = loss if math.isnan(running) else 0.95 * running + 0.05 * loss
        if time.monotonic() - last_report >= report_every_seconds:
            last_report = time.monotonic()
            progress = _progress(step, began, schedule.batch * size.context, running, model, held_out, size.context)
            _save_checkpoint(checkpoint, model, optimizers, progress)
            on_progress(progress, share)

    progress = _progress(step, began, schedule.batch * size.context, running, model, held_out, size.context)
    _save_checkpoint(checkpoint, model, optimizers, progress)
    on_progress(progress, 1.0)
    return model, progress


def held_out_loss(model: LlamaForCausalLM, tokens: Tensor, context: int, most: int = 48) -> float:
    """Mean negative log-likelihood, nats per token, over up to `most` windows spread evenly over `tokens`."""
    windows = spread_windows(tokens, context, most)
    with torch.inference_mode(), half_precision():
        losses = [
            model(input_ids=batch, labels=batch, use_cache=False).loss * len(batch) for batch in torch.split(windows, 8)
        ]
    return float(torch.stack(losses).sum()) / len(windows)


def spread_windows(tokens: Tensor, context: int, most: int) -> Tensor:
    """Up to `most` windows [N, context] spread evenly over `tokens`."""
    windows = tokens[: len(tokens) // context * context].view(-1, context)
    return windows[:: max(1, len(windows) // most)][:most]


def _step(model: Any, losing: Callable[..., Tensor], batch: tuple[Tensor, ...], micro_batch: int) -> float:
    total = 0.0
    for part in zip(*(torch.split(each, micro_batch) for each in batch), strict=True):
        with half_precision():
            loss = losing(model, *part) * len(part[0]) / len(batch[0])
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return total


def _optimizers(model: LlamaForCausalLM) -> list[Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embeddings and norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]


def _progress(
    step: int, began: float, tokens_a_step: int, loss: float, model: LlamaForCausalLM, held_out: Tensor, context: int
) -> Progress:
    watched = held_out_loss(model, held_out, context)
    return Progress(step, time.monotonic() - began, step * tokens_a_step, loss, watched)


def _save_checkpoint(folder: Path, model: LlamaForCausalLM, optimizers: list[Optimizer], progress: Progress) -> None:
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    save_file({name: p.detach().clone() for name, p in model.named_parameters()}, fresh / "model.safetensors")
    for number, optimizer in enumerate(optimizers):
        state = optimizer.state_dict()["state"]
        flat = {
            f"{index}.{name}": value.contiguous() for index, slots in state.items() for name, value in slots.items()
        }
        save_file(flat, fresh / f"optimizer-{number}.safetensors")
    (fresh / "progress.json").write_text(json.dumps(asdict(progress)))
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def _load_checkpoint(folder: Path, model: LlamaForCausalLM, optimizers: list[Optimizer]) -> Progress:
    model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)  # the tied head is not stored twice
    for number, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in load_file(folder / f"optimizer-{number}.safetensors").items():
            index, name = key.split(".", 1)
            state.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return Progress(**json.loads((folder / "progress.json").read_text()))
