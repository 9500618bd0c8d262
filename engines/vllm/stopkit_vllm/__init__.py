"""stopkit's policies inside vLLM's own speculative decoding.

vLLM schedules, batches, pages, drafts and verifies. A policy decides after every draft forward, for each request by
itself, whether the position enters its block and whether another forward is paid for. Names are imported on first use:
`--worker-cls stopkit_vllm.Worker` and the like name them, and vLLM is heavy.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "AsyncPlanScheduler": "scheduler",
    "CPUWorker": "cpu_worker",
    "Extension": "extension",
    "PlanScheduler": "scheduler",
    "Worker": "worker",
}

__version__ = "0.1.0"
__all__ = ["AsyncPlanScheduler", "CPUWorker", "Extension", "PlanScheduler", "Worker"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'stopkit_vllm' has no attribute {name!r}")
    value = getattr(import_module(f"stopkit_vllm.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
