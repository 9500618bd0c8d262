"""A model runner of vLLM gets a drafter that asks the policy."""

from importlib import import_module
from typing import Any

from stopkit import InputError
from stopkit_vllm.options import options_of

PLACES = {"v1": "drafter", "v2": "speculator"}
"""Where a model runner has its drafter, by version; each has a module of ours with the stand-ins for it."""

SCHEDULERS = "stopkit_vllm."
"""How the names of our scheduler classes begin."""


def equip(runner: Any) -> None:
    """Let a stand-in take the place of the drafter of `runner`, before any weights are loaded.

    Nothing happens if nobody has asked for stopkit, if it is in place, if the scheduler asks the policy, or on ranks
    without a drafter. Raises InputError for what is not served.
    """
    options = options_of(runner.vllm_config)
    if options is None or SCHEDULERS in str(runner.vllm_config.scheduler_config.scheduler_cls):
        return
    if runner.speculative_config is None:
        raise InputError("stopkit: there is nothing to stop without --speculative-config.")
    version = "v2" if hasattr(runner, "draft_tokens_handler") else "v1"
    drafter = getattr(runner, PLACES[version], None)
    if drafter is None or hasattr(drafter, "asking"):
        return
    stand_in = import_module(f"stopkit_vllm.{version}").STAND_INS.get(type(drafter))
    if stand_in is None:
        raise InputError(
            f"stopkit: {type(drafter).__name__}, for the speculative method {runner.speculative_config.method!r}, asks "
            "nobody between its tokens; a policy that only plans can say how many there are, with --scheduler-cls "
            "stopkit_vllm.AsyncPlanScheduler."
        )
    setattr(runner, PLACES[version], stand_in(runner, options))
