"""How much of the memory's speed the fused kernel gets, against a plain copy on the same device."""

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch

from gpu.lines import Line, Setting, without_cuda
from stopkit_engines.kernels import plain

SHAPE = 64, 128_256
SETS = 8
"""Inputs in turn: together they are several times what a GPU keeps in its caches."""
SHARE = 0.8


def bandwidth(setting: Setting) -> Iterator[Line]:
    """A line a dtype: bytes of the logits, which are read once, per second, as a share of what a copy moves."""
    for dtype in (torch.bfloat16, torch.float32):
        what = f"fused kernel, share of copy bandwidth, {str(dtype).removeprefix('torch.')}"
        if not setting.cuda:
            logits, uniform = torch.randn(2, 512).to(dtype), torch.rand(2, 1, dtype=torch.float64)
            plain.fused(logits, torch.tensor(1.0), uniform)  # the twin at least runs
            yield without_cuda(what, f"≥ {SHARE:.0%}")
            continue
        share, measured = of_copy(dtype)
        yield Line(what, f"≥ {SHARE:.0%}", measured, share >= SHARE, share)


def of_copy(dtype: torch.dtype) -> tuple[float, str]:
    """The share, and both rates."""
    from stopkit_engines.kernels.fused import fused

    several = [torch.randn(SHAPE, device="cuda").to(dtype) for _ in range(SETS)]
    heat, uniform = torch.ones((), device="cuda"), torch.rand(SHAPE[0], 1, dtype=torch.float64, device="cuda")
    each = repeated(lambda: [fused(logits, heat, uniform) for logits in several]) / SETS
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    copy = 2 * len(source) / repeated(lambda: target.copy_(source))
    rate = several[0].nbytes / each
    return rate / copy, f"{rate / copy:.0%} ({rate / 1e12:.2f} of {copy / 1e12:.2f} TB/s)"


def repeated(work: Callable[[], Any], repeats: int = 20) -> float:
    """Seconds of the work on the device, without what it takes to launch it: the median of replays of its graph."""
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times)
