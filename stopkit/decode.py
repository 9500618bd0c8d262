"""The one loop. Whatever an engine is, its tokens are made here and nowhere else."""

from stopkit.controller import DraftController
from stopkit.decoding import Decoding
from stopkit.policy import StoppingPolicy
from stopkit.state import State


def decode(policy: StoppingPolicy, decoding: Decoding, state: State | None = None) -> DraftController:
    """Run rounds until every sequence is finished; the controller returned holds the counts and the policy's state.

    Whatever stops the loop early, an interrupt included, carries what was produced in its `partial` attribute.
    """
    controller = DraftController(policy, decoding.batch_size, decoding.device, state, stopwatch=decoding.stopwatch)
    try:
        while not decoding.finished:
            drafting = controller.plan(decoding.context())
            while drafting:
                signals, usable = decoding.propose(controller.live)
                if drafting := controller.admit(signals, usable):
                    drawn, more = decoding.commit(controller.live)
                    drafting = controller.extend(drawn, more)
            controller.learn(*decoding.verify())
    except BaseException as stopped:
        stopped.partial = decoding.result(controller)  # type: ignore[attr-defined]
        raise
    return controller
