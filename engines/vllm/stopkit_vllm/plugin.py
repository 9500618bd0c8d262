"""The entry point `vllm.general_plugins`: in every process, any model runner that vLLM makes is equipped."""

from functools import cache, wraps
from typing import Any


@cache
def register() -> None:
    """Equip every model runner, once it has been made; what is not asked for stays as it is."""
    from vllm.platforms import current_platform
    from vllm.v1.worker import gpu_model_runner

    from stopkit_vllm.repair import repair

    _equipped(gpu_model_runner.GPUModelRunner)
    if current_platform.is_cpu():
        repair()
    else:
        from vllm.v1.worker.gpu import model_runner

        _equipped(model_runner.GPUModelRunner)


def _equipped(runner_class: Any) -> None:
    from stopkit_vllm.equipping import equip

    made = runner_class.__init__

    @wraps(made)
    def made_and_equipped(runner: Any, *args: Any, **kwargs: Any) -> None:
        made(runner, *args, **kwargs)
        equip(runner)

    runner_class.__init__ = made_and_equipped
