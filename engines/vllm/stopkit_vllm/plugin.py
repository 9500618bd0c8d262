"""The entry point `vllm.general_plugins`: in every process, any model runner that vLLM makes is equipped."""

from functools import cache, wraps
from importlib import import_module
from typing import Any

MODULES = ("vllm.v1.worker.gpu_model_runner", "vllm.v1.worker.gpu.model_runner")
"""Where vLLM's model runners are, V1 and V2; without Triton there is no V2."""


@cache
def register() -> None:
    """Equip every model runner, once it has been made; what is not asked for stays as it is."""
    from vllm.triton_utils import HAS_TRITON

    from stopkit_vllm.repair import repair

    repair()
    for module in MODULES[: 2 if HAS_TRITON else 1]:
        _equipped(import_module(module).GPUModelRunner)


def _equipped(runner_class: Any) -> None:
    from stopkit_vllm.equipping import equip

    made = runner_class.__init__

    @wraps(made)
    def made_and_equipped(runner: Any, *args: Any, **kwargs: Any) -> None:
        made(runner, *args, **kwargs)
        equip(runner)

    runner_class.__init__ = made_and_equipped
