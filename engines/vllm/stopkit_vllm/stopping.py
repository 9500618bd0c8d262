"""`Stopping`: what vLLM's proposers become when a policy ends each request's block (model runner V1).

vLLM's own `propose` runs, once a step; the policy is asked where it draws a token, and what is raised there leaves the
drafting loop once nobody drafts on. vLLM's first draft forward catches up with the target and gives the first
position's logits: a block of k tokens takes k forwards, and one runs whether anything is drafted or not.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from vllm.logger import init_logger
from vllm.v1.spec_decode.draft_model import DraftModelProposer
from vllm.v1.spec_decode.eagle import EagleProposer
from vllm.v1.spec_decode.llm_base_proposer import SpecDecodeBaseProposer

from stopkit import StopkitError, load_policy
from stopkit_vllm.drawing import Drawing, draw
from stopkit_vllm.limits import limit_of, stop_tokens
from stopkit_vllm.options import Options
from stopkit_vllm.refusals import require_served
from stopkit_vllm.rounds import Rounds, Verdict

logger = init_logger("vllm.stopkit")


class Stopped(Exception):
    """Nobody drafts on."""


class Stopping(SpecDecodeBaseProposer):
    """A proposer whose blocks a policy ends; without one it is vLLM's own."""

    rounds: Rounds | None = None
    """The policy at work."""

    def __init__(self, vllm_config: Any, device: torch.device, runner: Any, options: Options) -> None:
        super().__init__(vllm_config, device, runner)
        self._runner, self._options = runner, options
        self._verified: Sequence[Sequence[int]] | None = None
        if options.policy is not None:
            self.use(options.policy)

    def use(self, policy: Any) -> None:
        """Follow `policy`, which begins with what it learned before; None lets vLLM draft as it does without stopkit.

        Raises InputError for what is no policy, and for what it cannot work with.
        """
        if policy is None:
            self.rounds = None
            return
        require_served(self.vllm_config, self._options)
        loaded = load_policy(policy, "stopkit.policy")
        state = self._options.learned(loaded) if loaded == self._options.policy else None
        self.rounds = Rounds(loaded, self.device, self._options.costs, state)
        logger.info("stopkit: %r decides when drafting stops", loaded)

    # What vLLM tells before it asks for drafts.

    def prepare_next_token_ids_padded(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        next_tokens, emitted = super().prepare_next_token_ids_padded(*args, **kwargs)
        self._emitted, self._verified = emitted, None
        return next_tokens, emitted

    def prepare_inputs_padded(self, common: Any, metadata: Any, *args: Any, **kwargs: Any) -> Any:
        """Notes which draft tokens the scheduler has had verified."""
        blocks = metadata.draft_token_ids.cpu().split(metadata.num_draft_tokens)
        self._verified = [block.tolist() for block in blocks]
        return super().prepare_inputs_padded(common, metadata, *args, **kwargs)

    # A round.

    def propose(self, num_speculative_tokens: int, *args: Any, **kwargs: Any) -> Any:
        """vLLM's, or a list of another length for each request, with the q that their tokens were drawn from."""
        rounds, self._steps = self.rounds, []
        try:
            drafting = rounds is not None and self._plan(rounds, num_speculative_tokens, kwargs["next_token_ids"])
        except StopkitError as error:
            rounds = self._give_up(error)
        if rounds is None:
            return super().propose(num_speculative_tokens, *args, **kwargs)
        try:  # none, and vLLM only catches up; one, and it would be done without having asked for a second
            super().propose(max(num_speculative_tokens, 2) if drafting else 0, *args, **kwargs)
        except Stopped:
            pass
        finally:
            self.num_speculative_tokens = num_speculative_tokens
        qs = [step.q for step in self._steps if step.q is not None]
        self._last_draft_probs = torch.stack(qs, 1) if qs else None
        return rounds.close([step.token for step in self._steps])

    def _plan(self, rounds: Rounds, longest: int, next_tokens: Tensor) -> bool:
        names = list(self._runner.input_batch.req_ids)
        requests = [self._runner.requests[name] for name in names]
        emitted = self._emitted.tolist()
        verified = [[]] * len(names) if self._verified is None else self._verified
        rounds.learn({name: Verdict(*told) for name, *told in zip(names, verified, emitted, strict=True)})
        limits = [
            limit_of(request, count, token, longest, self.max_model_len, self._enable_probabilistic_draft_probs)
            for request, count, token in zip(requests, emitted, next_tokens.tolist(), strict=True)
        ]
        self._stops = [stop_tokens(request) for request in requests]
        lengths = [request.num_tokens + count for request, count in zip(requests, emitted, strict=True)]
        return rounds.plan(
            names,
            limits,
            self._runner.requests,
            last_token=next_tokens.long(),
            length=torch.tensor(lengths, device=self.device),
        )

    def _sample_draft_tokens(self, hidden_states: Tensor, sampling_metadata: Any) -> tuple[Tensor, Tensor | None]:
        if self.rounds is None:
            return super()._sample_draft_tokens(hidden_states, sampling_metadata)
        self.rounds.step()
        sampled = self._enable_probabilistic_draft_probs and not sampling_metadata.all_greedy
        step = draw(
            self.model.compute_logits(hidden_states),
            hidden_states,
            self.rounds.policy.required_signals,
            None if sampling_metadata.all_random else sampling_metadata.temperature,
            (lambda logits: self._sample_from_logits(logits, sampling_metadata)) if sampled else None,
        )
        try:
            going = self._decide(self.rounds, step)
        except StopkitError as error:
            self._give_up(error)
            going = False
        if not going:
            raise Stopped
        return step.token, step.q

    def _decide(self, rounds: Rounds, step: Drawing) -> bool:
        """Whether any request drafts on."""
        if not rounds.admit(step.signals, step.usable):  # it is not shown the token
            return False
        self._steps.append(step)
        over = [token in stops for token, stops in zip(step.token.tolist(), self._stops, strict=True)]
        return rounds.extend(step.drawn, more=~torch.tensor(over, device=self.device))

    def _give_up(self, error: StopkitError) -> None:
        """vLLM drafts by itself from here on, unless a policy that fails is to stop it."""
        if self._options.strict:
            raise error
        logger.error("stopkit: %s; vLLM drafts by itself from here on.", error)
        self.use(None)


class StoppingDraftModel(Stopping, DraftModelProposer):
    """A draft model of its own."""


class StoppingEagle(Stopping, EagleProposer):
    """EAGLE and MTP heads."""


STOPPING: dict[type, type[Stopping]] = {DraftModelProposer: StoppingDraftModel, EagleProposer: StoppingEagle}
"""What stands in for vLLM's proposers; those that are not here draft a block at once, or without a model."""
