"""What vLLM's speculator becomes when a policy ends each request's block: model runner V2, the default on GPUs.

Written against the source of vLLM 0.32 and 0.33. Drafts stay on the device in a table of one width; the scheduler is
told how many of each request's are to be verified, so that the others are never looked at.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from vllm.v1.outputs import DraftTokenIds
from vllm.v1.worker.gpu.spec_decode.standalone_ar.speculator import StandaloneARSpeculator
from vllm.v1.worker.gpu.spec_decode.utils import DraftTokensHandler

from stopkit_vllm.asking import Asking, Stopped
from stopkit_vllm.drawing import GREEDY, draw
from stopkit_vllm.options import Options
from stopkit_vllm.rounds import Rounds, Verdict


class Clipping(DraftTokensHandler):
    """Tells the scheduler of each request's block only as much as was drafted."""

    lengths: Sequence[int] | None = None
    """Of the blocks, by row; None if they are whole."""

    def get_draft_tokens(self) -> DraftTokenIds | None:
        """vLLM's, with rows of several lengths."""
        drafts = super().get_draft_tokens()
        if drafts is None or self.lengths is None:
            return drafts
        rows = zip(drafts.draft_token_ids, self.lengths, strict=True)
        return DraftTokenIds(drafts.req_ids, [row[:length] for row, length in rows])


class StoppingSpeculator(StandaloneARSpeculator):
    """The speculator of `runner` for a draft model of its own; without a policy it is vLLM's own."""

    def __init__(self, runner: Any, options: Options) -> None:
        super().__init__(runner.vllm_config, runner.device)
        self._requests = runner.req_states
        self._handler = runner.draft_tokens_handler = Clipping(runner.device)
        self.asking = Asking(runner.vllm_config, runner.device, options)

    def propose(self, input_batch: Any, *args: Any, dummy_run: bool = False, **kwargs: Any) -> Any:
        """vLLM's draft tokens, [B, K]; how many of each row are drafts is for the scheduler."""
        _, _, _, _, emitted, rejected, last, *_ = args
        self._handler.lengths, self._drafting = None, False
        if dummy_run:
            return super().propose(input_batch, *args, dummy_run=True, **kwargs)
        self._drafting = self.asking.plan(
            lambda rounds: self._plan(rounds, input_batch, emitted, rejected, last, kwargs["num_speculative_tokens"])
        )
        if not self.asking.asked:
            return super().propose(input_batch, *args, **kwargs)
        with suppress(Stopped):
            super().propose(input_batch, *args, **kwargs)
        self._handler.lengths = [len(block) for block in self.asking.close()]
        return self.draft_tokens[: input_batch.num_reqs]

    def _plan(
        self, rounds: Rounds, batch: Any, emitted: Tensor, rejected: Tensor, last: Tensor, longest: int | None
    ) -> bool:
        names, count = batch.req_ids[: batch.num_reqs], batch.num_reqs
        given = emitted[:count].tolist()
        offered = [0] * count if batch.num_draft_tokens_per_req is None else batch.num_draft_tokens_per_req.tolist()
        blocks = self._requests.draft_tokens[batch.idx_mapping[:count]].tolist()  # not yet those of this round
        rounds.learn(
            {
                name: Verdict(block[:length], number)
                for name, block, length, number in zip(names, blocks, offered, given, strict=True)
            }
        )
        lengths = batch.seq_lens[:count] - rejected[:count] + 1
        ends = [min(int(self._requests.max_seq_len[row]), self.max_model_len) for row in batch.idx_mapping_np[:count]]
        most = 0 if self.draft_logits is not None and batch.has_structured_output_reqs else self.num_speculative_steps
        limits = [
            None if number == 0 or end <= length else max(0, min(most, longest or most, end - length - 1))
            for number, end, length in zip(given, ends, lengths.tolist(), strict=True)
        ]
        told = {"last_token": last[batch.idx_mapping[:count], 0], "length": lengths.long()}
        return rounds.plan(names, limits, self._requests.req_id_to_index, **told)

    def compute_draft_logits(self, *args: Any, **kwargs: Any) -> Any:
        """vLLM's, kept for the policy."""
        self._logits = super().compute_draft_logits(*args, **kwargs)
        return self._logits

    def sample_draft(
        self, hidden_states: Tensor, positions: Tensor, idx_mapping: Tensor, temperature: Tensor, *args: Any, **kw: Any
    ) -> Tensor:
        """vLLM's, which the policy is asked about."""
        token: Tensor = super().sample_draft(hidden_states, positions, idx_mapping, temperature, *args, **kw)
        if not self.asking.asked:
            return token
        if not self._drafting:
            raise Stopped
        place = len(self.asking.steps)
        self.draft_tokens[: len(token), place] = token  # by what follows vLLM may never come to it
        temperatures = temperature[idx_mapping]
        self.asking.decide(
            lambda rounds: draw(
                self._logits,
                hidden_states,
                rounds.policy.required_signals,
                temperatures,
                None if self.draft_logits is None else lambda logits: (token, _distribution(logits, temperatures)),
            )
        )
        return token


def _distribution(logits: Tensor, temperature: Tensor) -> Tensor:
    """What a token was drawn from, [B, V]; where the temperature [B] is 0, the softmax."""
    divisor = temperature.where(temperature >= GREEDY, 1.0).unsqueeze(1)
    return torch.softmax(logits.float() / divisor, -1)


STAND_INS: dict[type, type[StoppingSpeculator]] = {StandaloneARSpeculator: StoppingSpeculator}
"""For which of vLLM's speculators there is one: others draft in a captured graph, or a block at once."""
