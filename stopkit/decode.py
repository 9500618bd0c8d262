"""The one loop. Whatever an engine is, its tokens are made here and nowhere else."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from stopkit.controller import DraftController
from stopkit.decoding import Decoding
from stopkit.generation import GenerationResult
from stopkit.policy import StoppingPolicy, Verbs
from stopkit.state import State


class Generation:
    """A generation under way: `policy` decides, `decoding` drafts and verifies.

    `state` goes on from that of an earlier result; `verbs` are the policy's, in another form. Whatever stops a round,
    an interrupt included, carries what was produced so far in its `partial` attribute.
    """

    def __init__(
        self, policy: StoppingPolicy, decoding: Decoding, state: State | None = None, verbs: Verbs | None = None
    ) -> None:
        self.decoding = decoding
        # Without a state to go on from, a sequence begins when it is seated.
        rows = len(decoding.seated) if state is None else decoding.sequence_count
        self.controller = DraftController(
            policy, rows, decoding.device, state, decoding.costs, decoding.stopwatch, verbs
        )

    @property
    def finished(self) -> bool:
        """Whether every sequence has ended, and no round is left to run."""
        return self.decoding.finished

    def step(self) -> None:
        """Run one round: draft a block for every row, verify the blocks, learn from what was accepted."""
        with self._at_work():
            self._round()

    def draft_step(self) -> bool:
        """One draft step of the round under way, by one call or in its parts; whether any row drafts on."""
        decoding, controller = self.decoding, self.controller
        if whole := decoding.step(controller.verbs, controller.state, controller.block):
            return controller.take(whole)
        signals, usable = decoding.propose(controller.live, controller.drafted)
        if not controller.admit(signals, usable):
            return False
        return controller.extend(*decoding.commit(controller.live, controller.drafted))

    def run(self) -> GenerationResult:
        """Run rounds until every sequence has ended."""
        with self._at_work():
            while not self.finished:
                self._round()
        return self.result()

    def result(self) -> GenerationResult:
        """What has been produced so far."""
        return self.decoding.result(self.controller)

    def _round(self) -> None:
        decoding, controller = self.decoding, self.controller
        controller.seat(decoding.seated)
        drafting = controller.plan(decoding.context())
        while drafting:
            drafting = self.draft_step()
        controller.learn(*decoding.verify(controller.drafted))
        decoding.deliver()

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        try:
            with torch.inference_mode():
                yield
        except BaseException as stopped:
            stopped.partial = self.result()  # type: ignore[attr-defined]
            raise
