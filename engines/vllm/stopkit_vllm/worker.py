"""`--worker-cls stopkit_vllm.Worker`: a GPU's worker with a policy, where the entry point is not installed."""

from typing import Any

from vllm.v1.worker import gpu_worker

from stopkit_vllm.equipping import equip
from stopkit_vllm.extension import Extension


class Worker(gpu_worker.Worker, Extension):
    """vLLM's worker, whose drafter asks the policy."""

    def _make_model_runner(self) -> Any:
        runner = super()._make_model_runner()
        equip(runner)
        return runner
