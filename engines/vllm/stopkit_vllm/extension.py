"""What can be asked of workers while they run: `--worker-extension-cls stopkit_vllm.Extension`, `collective_rpc`."""

from typing import Any

from stopkit import InputError
from stopkit.kinds import as_block
from stopkit.state_file import save_state
from stopkit_vllm.asking import Asking
from stopkit_vllm.equipping import PLACES

COUNTS = (
    "tokens",
    "rounds",
    "drafted",
    "accepted",
    "acceptance_rate",
    "block_efficiency",
    "offered_by_position",
    "accepted_by_position",
    "draft_forwards",
    "target_forwards",
)
"""What is counted; the times of a server that waits for requests say nothing."""


class Extension:
    """Methods that vLLM's workers get. A worker has one base of this name, ours or the option's."""

    def stopkit_statistics(self) -> dict[str, Any]:
        """What has been counted so far, the policy, and the costs as they are known; nothing if none is at work.

        The counts are fields of `Statistics`. A request's first token belongs to no round.
        """
        rounds = _asking(self).rounds
        if rounds is None:
            return {}
        counts = rounds.statistics.as_dict()
        told = {name: counts[name] for name in COUNTS}
        return {"policy": as_block(rounds.policy), "costs": rounds.costs, **told}

    def stopkit_use(self, policy: Any) -> str:
        """Follow another policy, which begins afresh; None lets vLLM draft by itself. What is at work from now on."""
        asking = _asking(self)
        asking.use(policy)
        return "none" if asking.rounds is None else repr(asking.rounds.policy)

    def stopkit_save_state(self, path: str) -> None:
        """Write what the policy has learned for requests to come, for the option `state`."""
        rounds = _asking(self).rounds
        learned = None if rounds is None else rounds.learned
        if rounds is None or learned is None:
            raise InputError("stopkit_save_state: nothing is shared between requests; give a policy that carries over.")
        save_state(path, rounds.policy, learned)


def _asking(worker: Any) -> Asking:
    runner = worker.model_runner
    for place in PLACES.values():
        if asking := getattr(getattr(runner, place, None), "asking", None):
            return asking  # type: ignore[no-any-return]
    raise InputError('stopkit: is not in place; give --additional-config \'{"stopkit": {"policy": …}}\'.')
