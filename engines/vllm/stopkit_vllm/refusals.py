"""What cannot be served, each by the option that would have to change."""

from operator import attrgetter
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


REFUSED = {
    "scheduler_config.async_scheduling": (0, "blocks of several lengths need --no-async-scheduling"),
    "speculative_config.use_heterogeneous_vocab": (0, "draft and target must have one vocabulary"),
    "speculative_config.parallel_drafting": (0, "a policy decides between draft tokens, and needs them one by one"),
    "speculative_config.disable_padded_drafter_batch": (0, "the batch of drafts must be padded"),
    "speculative_config.use_local_argmax_reduction": (0, "a policy is shown the whole distribution of the draft"),
    "parallel_config.data_parallel_size": (1, "replicas would wait for each other's draft forwards"),
}
"""The fields of a VllmConfig that a policy cannot work with, the most that each may be, and why."""
REFUSED_AT_MEASURED_COSTS = {
    "parallel_config.tensor_parallel_size": (1, "every rank must decide alike, so give costs: measured ones differ"),
}
"""Likewise, unless costs are fixed."""


def require_served(config: Any, options: Options) -> None:
    """Raise InputError for the first thing in a VllmConfig that a policy cannot work with."""
    require_version()
    for place, (most, reason) in {**REFUSED, **({} if options.costs else REFUSED_AT_MEASURED_COSTS)}.items():
        value = attrgetter(place)(config)
        if value > most:
            raise InputError(f"stopkit: {place} is {value!r}: {reason}.")
