"""The bundled pair in the engines, with and without ballast."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

import stopkit
from gpu.ballast import PAIRS, aboard, made
from gpu.lines import Setting
from stopkit.pair.corpus import held_out_prompts


def loaded(kind: str, setting: Setting, **fields: Any) -> Any:
    """An engine with the bundled pair on the device."""
    more: dict[str, Any] = {"compile": False} if kind == "compiled" and not setting.cuda else {}
    if setting.small:
        more["trial"] = "never"
    return stopkit.load_engine({"kind": kind, "device": setting.device, **more, **fields})


@contextmanager
def heavy(engine: Any, pair: tuple[str, str]) -> Iterator[None]:
    """Let both models of `engine` carry ballast of these sizes."""
    models, device = engine.models, str(engine.models.target.device)
    with ExitStack() as stack:
        for model, size in zip((models.target, models.draft), pair, strict=True):
            stack.enter_context(aboard(model, made(size, device)))
        yield
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def pairs(setting: Setting) -> tuple[tuple[str, str], ...]:
    """The sizes of ballast."""
    return (("tiny", "tinier"),) if setting.small else PAIRS


def prompt(engine: Any) -> list[int]:
    """Tokens of held-out code."""
    tokens: list[int] = engine.models.tokenizer(held_out_prompts(1)[0])["input_ids"][:32]
    return tokens


def seconds_of(work: Any, repeats: int = 1) -> float:
    """Seconds of one call, the device's work included: the mean over repeats."""
    wait()
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    wait()
    return (time.perf_counter() - began) / repeats


def wait() -> None:
    """Until the device is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
