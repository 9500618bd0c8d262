"""The most that is worth drafting for a request, and the tokens after which nothing is."""

from collections.abc import Sequence
from typing import Any

from stopkit_vllm.drawing import GREEDY


def limit_of(request: Any, emitted: int, token: int, longest: int, context: int, sampled: bool) -> int | None:
    """At most how many tokens to draft after `token`, the last of `emitted` new ones; None if `request` takes no part.

    It takes none while it reads its prompt, and once it is done. No more than `longest` are drafted, nor than what is
    left of its `max_tokens` and of a `context` of so many tokens, less the token that the target adds. Nothing is where
    drafts are `sampled` and a grammar cuts blocks after looking at them, which would bias the output.
    """
    options = request.sampling_params
    after = len(request.output_token_ids) + emitted
    left = min(options.max_tokens or context, context - request.num_prompt_tokens) - after
    done = left <= 0 or (after >= options.min_tokens and token in stop_tokens(request))
    if emitted == 0 or done:
        return None
    judged = sampled and options.structured_outputs is not None and options.temperature >= GREEDY
    return 0 if judged else max(0, min(longest, left - 1))


def stop_tokens(request: Any) -> frozenset[int]:
    """The tokens that end `request`."""
    options = request.sampling_params
    ends: Sequence[int | None] = [*(options.stop_token_ids or ()), None if options.ignore_eos else options.eos_token_id]
    return frozenset(token for token in ends if token is not None)
