"""The entry point `vllm.general_plugins`: in every process, any model runner that vLLM makes is equipped."""

from functools import cache, wraps
from typing import Any


@cache
def register() -> None:
    """Equip every model runner, once it has been made; what is not asked for stays as it is."""
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    from stopkit_vllm.equipping import equip
    from stopkit_vllm.repair import repair

    repair()
    made = GPUModelRunner.__init__

    @wraps(made)
    def made_and_equipped(runner: Any, *args: Any, **kwargs: Any) -> None:
        made(runner, *args, **kwargs)
        equip(runner)

    GPUModelRunner.__init__ = made_and_equipped
