"""A model runner of vLLM gets a drafter that asks the policy."""

from typing import Any

from vllm.v1.worker.gpu_model_runner import GPUModelRunner

from stopkit import InputError
from stopkit_vllm.options import options_of
from stopkit_vllm.stopping import STOPPING, Stopping


def equip(runner: Any) -> None:
    """Put a stopping proposer in the place of the drafter of `runner`, before any weights are loaded.

    Nothing happens if nobody has asked for stopkit, or if it is in place. Raises InputError for what is not served.
    """
    options = options_of(runner.vllm_config)
    drafter = getattr(runner, "drafter", None)
    if options is None or isinstance(drafter, Stopping):
        return
    config = runner.speculative_config
    if isinstance(runner, GPUModelRunner) and type(drafter) in STOPPING:
        runner.drafter = STOPPING[type(drafter)](runner.vllm_config, runner.device, runner, options)
    elif config is None:
        raise InputError("stopkit: there is nothing to stop without --speculative-config.")
    elif drafter is not None:  # on ranks of a pipeline before the last there is none
        raise InputError(
            f"stopkit: speculative method {config.method!r} drafts a whole block at once; a policy that only plans can "
            "say how long it is, with --scheduler-cls stopkit_vllm.AsyncPlanScheduler."
        )
