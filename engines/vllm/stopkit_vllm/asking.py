"""`Asking`: the policy that a drafter of vLLM asks, and what becomes of it if it fails."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from vllm.logger import init_logger

from stopkit import InputError, StopkitError, load_policy
from stopkit_vllm.drawing import Drawing
from stopkit_vllm.options import Options
from stopkit_vllm.refusals import require_served
from stopkit_vllm.rounds import Rounds

logger = init_logger("vllm.stopkit")


class Stopped(Exception):
    """Nobody drafts on. Raised where vLLM draws a token, it leaves vLLM's drafting loop."""


class Asking:
    """Begins with the policy of `options`, if there is one, for whatever a VllmConfig says."""

    def __init__(self, vllm_config: Any, device: torch.device, options: Options) -> None:
        self._config, self._device, self._options = vllm_config, device, options
        self.rounds: Rounds | None = None
        """The policy at work; None if vLLM drafts as it does without stopkit."""
        self._round: Rounds | None = None
        self.steps: list[Drawing] = []
        """The steps of a round whose tokens are in somebody's block."""
        self.use(options.policy)

    def use(self, policy: Any) -> None:
        """Follow `policy` from the next round on; None for no policy.

        It begins with what the option `state` says, if it is the one of the options, and afresh if not. Raises
        InputError for what is no policy, and for what none can work with.
        """
        if policy is None:
            self.rounds = None
            return
        require_served(self._config, self._options)
        loaded = load_policy(policy, "stopkit.policy")
        if "entropy" in loaded.required_context:
            raise InputError(f"stopkit: policy {loaded.kind!r} reads the target's entropy, which vLLM does not tell.")
        state = self._options.learned(loaded) if loaded == self._options.policy else None
        self.rounds = Rounds(loaded, self._device, self._options.costs, state)
        logger.info("stopkit: %r decides when drafting stops", loaded)

    # A round.

    def plan(self, plan: Callable[[Rounds], bool]) -> bool:
        """Begin a round by `plan`; whether any request drafts."""
        self._round, self.steps = self.rounds, []
        try:
            return self._round is not None and plan(self._round)
        except StopkitError as error:
            self._round = None
            self._give_up(error)
            return False

    @property
    def asked(self) -> bool:
        """Whether the blocks of the round under way are the policy's."""
        return self._round is not None

    def decide(self, step: Callable[[Rounds], Drawing], stops: Sequence[frozenset[int]] = ()) -> None:
        """Ask about the position that a draft forward has ended with; raises Stopped once nobody drafts on.

        `step` draws its tokens, `stops` are those that end each request.
        """
        try:
            if self.rounds is None or not self._decide(self.rounds, step, stops):
                raise Stopped
        except StopkitError as error:
            self._give_up(error)
            raise Stopped from None

    def close(self) -> list[list[int]]:
        """The blocks, a list of another length for each request."""
        assert self._round is not None, "plan begins a round"
        return self._round.close([step.token for step in self.steps])

    def _decide(self, rounds: Rounds, step: Callable[[Rounds], Drawing], stops: Sequence[frozenset[int]]) -> bool:
        rounds.step()
        drawing = step(rounds)
        if not rounds.admit(drawing.signals, drawing.usable):  # it is not shown the token
            return False
        self.steps.append(drawing)
        return rounds.extend(drawing.drawn, more=self._go_on(drawing.token, stops))

    def _go_on(self, token: Tensor, stops: Sequence[frozenset[int]]) -> Tensor:
        if not stops:
            return torch.ones_like(token, dtype=torch.bool)
        over = [one in ends for one, ends in zip(token.tolist(), stops, strict=True)]
        return ~torch.tensor(over, device=self._device)

    def _give_up(self, error: StopkitError) -> None:
        """vLLM drafts by itself from here on, unless a policy that fails is to stop it."""
        if self._options.strict:
            raise error
        logger.error("stopkit: %s; vLLM drafts by itself from here on.", error)
        self.use(None)
