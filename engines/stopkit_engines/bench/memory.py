"""How much memory a piece of work took at its peak."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
PEAK = "VmHWM:"


@contextmanager
def peak(device: torch.device, found: dict[str, Any]) -> Iterator[None]:
    """Leave in `found["peak_memory"]` the most bytes that there were within the block; None where it cannot be told.

    On a GPU that is what torch had allocated. On Linux it is all that the process held, models included, by the mark
    that the system keeps and lets one set back.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield
        found["peak_memory"] = torch.cuda.max_memory_allocated(device)
        return
    fresh = _set_back()
    yield
    found["peak_memory"] = _mark() if fresh else None


def _set_back() -> bool:
    try:
        CLEAR.write_text("5")
    except OSError:
        return False
    return True


def _mark() -> int | None:
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(PEAK)), None)
