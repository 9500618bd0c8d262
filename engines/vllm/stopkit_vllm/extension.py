"""What can be asked of workers while they run: `--worker-extension-cls stopkit_vllm.Extension`, `collective_rpc`."""

from typing import Any

from stopkit import InputError
from stopkit.kinds import as_block
from stopkit.state_file import save_state


class Extension:
    """Methods that vLLM's workers get. A worker has one base of this name, ours or the option's."""

    def stopkit_statistics(self) -> dict[str, Any]:
        """What has been counted so far, as `stopkit` counts it, and the policy; nothing if none is at work."""
        rounds = _drafter(self).rounds
        return {} if rounds is None else {"policy": as_block(rounds.policy), **rounds.statistics.as_dict()}

    def stopkit_use(self, policy: Any) -> str:
        """Follow another policy, which begins afresh; None lets vLLM draft by itself. What is at work from now on."""
        drafter = _drafter(self)
        drafter.use(policy)
        return repr(drafter.rounds.policy) if drafter.rounds else "none"

    def stopkit_save_state(self, path: str) -> None:
        """Write what the policy has learned for requests to come, for the option `state`."""
        rounds = _drafter(self).rounds
        learned = None if rounds is None else rounds.learned
        if rounds is None or learned is None:
            raise InputError("stopkit_save_state: nothing is shared between requests; give a policy that carries over.")
        save_state(path, rounds.policy, learned)


def _drafter(worker: Any) -> Any:
    drafter = getattr(worker.model_runner, "drafter", None) or getattr(worker.model_runner, "speculator", None)
    if not hasattr(drafter, "rounds"):
        raise InputError('stopkit: is not in place; give --additional-config \'{"stopkit": {"policy": …}}\'.')
    return drafter
