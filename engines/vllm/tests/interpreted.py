"""Triton's interpreter in the place of a GPU, so that model runner V2 runs on a CPU. To be imported before vLLM is."""

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

os.environ.update(TRITON_INTERPRET="1", VLLM_USE_V2_MODEL_RUNNER="1")

from triton import language
from triton.backends import backends
from triton.runtime import interpreter


class Driver:
    """vLLM asks for one that is there."""

    @staticmethod
    def is_active() -> bool:
        """It is."""
        return True


class Backend:
    """What vLLM looks for where Triton compiles for CPUs."""

    driver, compiler = Driver, None


def with_flags(access: Callable[..., Any], place: int) -> Callable[..., Any]:
    """`access` to memory, whose mask, the argument at `place`, is made of flags: vLLM's are numbers now and then."""

    def accessed(*arguments: Any) -> Any:
        return access(*(each.astype(bool) if at == place else each for at, each in enumerate(arguments)))

    return accessed


def log1p(x: Any) -> Any:
    """What a library of functions for GPUs has."""
    return language.log(1.0 + x)


def without_libraries() -> None:
    """Put functions that the interpreter knows in the place of those it does not, once vLLM can be imported."""
    from vllm.v1.worker.gpu.spec_decode import rejection_sampler_utils

    rejection_sampler_utils.tldevice = SimpleNamespace(log1p=log1p)


backends["cpu"] = Backend
for name, place in (("load", 1), ("store", 2)):
    setattr(interpreter._interpreter, name, with_flags(getattr(interpreter._interpreter, name), place))
