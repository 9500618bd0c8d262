"""`--worker-cls stopkit_vllm.CPUWorker`: a CPU's worker with a policy, where the entry point is not installed."""

from vllm.v1.worker import cpu_worker

from stopkit_vllm.equipping import equip
from stopkit_vllm.extension import Extension
from stopkit_vllm.repair import repair


class CPUWorker(cpu_worker.CPUWorker, Extension):
    """vLLM's worker, whose drafter asks the policy."""

    def init_device(self) -> None:
        repair()
        super().init_device()
        equip(self.model_runner)
