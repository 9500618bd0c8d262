"""What cannot be served, each by the option that would have to change."""

from collections.abc import Callable
from typing import Any

import vllm

from stopkit import InputError
from stopkit_vllm.options import Options

VERSIONS = ("0.32", "0.33")
"""Whose insides this was written against."""


def require_version() -> None:
    """Raise InputError unless vLLM is of a version whose insides are known."""
    minor = ".".join(vllm.__version__.split(".")[:2])
    if minor not in VERSIONS:
        raise InputError(
            f"stopkit: vLLM is {vllm.__version__}, and stopkit-vllm knows the insides of {' and '.join(VERSIONS)} only."
        )


REFUSED: dict[str, Callable[[Any, Options], object]] = {
    "blocks of several lengths need --no-async-scheduling": lambda config, _: config.scheduler_config.async_scheduling,
    "draft and target must have one vocabulary, so leave use_heterogeneous_vocab out of --speculative-config": lambda config, _: (
        config.speculative_config.use_heterogeneous_vocab
    ),
    "a policy decides token by token, so leave parallel_drafting out of --speculative-config": lambda config, _: (
        config.speculative_config.parallel_drafting
    ),
    "leave disable_padded_drafter_batch out of --speculative-config": lambda config, _: (
        config.speculative_config.disable_padded_drafter_batch
    ),
    "a policy is shown the draft's logits, so leave use_local_argmax_reduction out of --speculative-config": lambda config, _: (
        config.speculative_config.use_local_argmax_reduction
    ),
    "with --data-parallel-size above 1 replicas would wait for each other's forwards": lambda config, _: (
        config.parallel_config.data_parallel_size > 1
    ),
    "with --tensor-parallel-size above 1 every rank must decide alike; give costs, as measured ones differ": lambda config, options: (
        config.parallel_config.tensor_parallel_size > 1 and options.costs is None
    ),
}
"""Why, and whether it is so of a VllmConfig."""


def require_served(config: Any, options: Options) -> None:
    """Raise InputError for the first thing in a VllmConfig that a policy cannot work with."""
    require_version()
    for reason, holds in REFUSED.items():
        if holds(config, options):
            raise InputError(f"stopkit: {reason}.")
