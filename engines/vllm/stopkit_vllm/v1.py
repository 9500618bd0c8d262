"""What vLLM's proposers become when a policy ends each request's block: model runner V1.

vLLM's own `propose` runs, once a step; the policy is asked where it draws a token. Its first draft forward catches up
with the target and gives the first position's logits: a block of k tokens takes k forwards, and one runs whether
anything is drafted or not.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from vllm.v1.spec_decode.draft_model import DraftModelProposer
from vllm.v1.spec_decode.eagle import EagleProposer
from vllm.v1.spec_decode.llm_base_proposer import SpecDecodeBaseProposer

from stopkit_vllm.asking import Asking, Stopped
from stopkit_vllm.drawing import draw
from stopkit_vllm.limits import limit_of, stop_tokens
from stopkit_vllm.options import Options
from stopkit_vllm.rounds import Rounds, Verdict


class Stopping(SpecDecodeBaseProposer):
    """A proposer of `runner` whose blocks a policy ends; without one it is vLLM's own."""

    def __init__(self, runner: Any, options: Options) -> None:
        super().__init__(runner.vllm_config, runner.device, runner)
        self._runner = runner
        self._verified: Sequence[Sequence[int]] | None = None
        self.asking = Asking(runner.vllm_config, runner.device, options)

    # What vLLM tells before it asks for drafts.

    def prepare_next_token_ids_padded(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Notes how many tokens each request has got."""
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
        drafting = self.asking.plan(lambda rounds: self._plan(rounds, num_speculative_tokens, kwargs["next_token_ids"]))
        if not self.asking.asked:
            return super().propose(num_speculative_tokens, *args, **kwargs)
        try:  # none, and vLLM only catches up; one, and it would be done without having asked for a second
            super().propose(max(num_speculative_tokens, 2) if drafting else 0, *args, **kwargs)
        except Stopped:
            pass
        finally:
            self.num_speculative_tokens = num_speculative_tokens
        qs = [step.q for step in self.asking.steps if step.q is not None]
        self._last_draft_probs = torch.stack(qs, 1) if qs else None
        return self.asking.close()

    def _plan(self, rounds: Rounds, longest: int, next_tokens: Tensor) -> bool:
        names = list(self._runner.input_batch.req_ids)
        requests = [self._runner.requests[name] for name in names]
        emitted = self._emitted.tolist()
        verified = [[]] * len(names) if self._verified is None else self._verified
        rounds.learn({name: Verdict(*told) for name, *told in zip(names, verified, emitted, strict=True)})
        self._stops = [stop_tokens(request) for request in requests]
        sampled = self._enable_probabilistic_draft_probs
        limits = [
            limit_of(request, count, token, longest, self.max_model_len, sampled)
            for request, count, token in zip(requests, emitted, next_tokens.tolist(), strict=True)
        ]
        lengths = [request.num_tokens + count for request, count in zip(requests, emitted, strict=True)]
        told = {"last_token": next_tokens.long(), "length": torch.tensor(lengths, device=self.device)}
        return rounds.plan(names, limits, self._runner.requests, **told)

    def _sample_draft_tokens(self, hidden_states: Tensor, sampling_metadata: Any) -> Any:
        if not self.asking.asked:
            return super()._sample_draft_tokens(hidden_states, sampling_metadata)
        sampled = self._enable_probabilistic_draft_probs and not sampling_metadata.all_greedy
        self.asking.decide(
            lambda rounds: draw(
                self.model.compute_logits(hidden_states),
                hidden_states,
                rounds.policy.required_signals,
                None if sampling_metadata.all_random else sampling_metadata.temperature,
                (lambda logits: self._sample_from_logits(logits, sampling_metadata)) if sampled else None,
            ),
            self._stops,
        )
        step = self.asking.steps[-1]
        return step.token, step.q


class StoppingDraftModel(Stopping, DraftModelProposer):
    """A draft model of its own."""


class StoppingEagle(Stopping, EagleProposer):
    """EAGLE and MTP heads."""


STAND_INS: dict[type, type[Stopping]] = {DraftModelProposer: StoppingDraftModel, EagleProposer: StoppingEagle}
"""For which of vLLM's proposers there is one: not for those that draft a block at once, or without a model."""
