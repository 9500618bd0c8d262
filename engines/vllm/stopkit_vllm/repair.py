"""A repair of vLLM on CPUs, without which no speculative run at a temperature above 0 is sampled right.

There, `expand_batch_to_tokens` writes into a copy of its output and returns what was never written to: temperatures,
top-k and top-p of the tokens to verify are whatever the memory held (vLLM's issue 55005, in 0.32 and 0.33). GPUs have
another function of this name, which is right.
"""

import torch
from torch import Tensor
from vllm.platforms import current_platform
from vllm.v1.sample import rejection_sampler


def expand_batch_to_tokens(
    x: Tensor, cu_num_tokens: Tensor, num_tokens: int, replace_from: int = 0, replace_to: int = 0
) -> Tensor:
    """Each request's value of `x` [B] for each of its tokens, [num_tokens], of which `cu_num_tokens` [B] counts.

    Values of `replace_from` become `replace_to`. The arguments are those of vLLM's function.
    """
    counts = torch.diff(cu_num_tokens, prepend=cu_num_tokens.new_zeros(1)).long()
    return x.masked_fill(x == replace_from, replace_to).repeat_interleave(counts, output_size=num_tokens)


def repair() -> None:
    """Put the repaired function in the place of vLLM's, on a CPU."""
    if current_platform.is_cpu():
        rejection_sampler.expand_batch_to_tokens = expand_batch_to_tokens
