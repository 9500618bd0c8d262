"""Traces made by hand, in which it is known what a hidden state says."""

from pathlib import Path

import torch

from stopkit.sampling import Sampling
from stopkit.trace.format import Metadata
from stopkit.trace.recorder import Rollouts
from stopkit.trace.writing import TraceWriter

WIDTH = 4


def telling_trace(path: Path, sequences: int = 5, tokens: int = 24, longest: int = 4, hidden: bool = True) -> Path:
    """The first number of the state that has read a token says whether it is accepted; the others are noise."""
    model = {"name": "made by hand"}
    metadata = Metadata(
        target=model,
        draft=model,
        tokenizer="",
        prompts="",
        sequences=sequences,
        sampling=Sampling(temperature=1.0),
        seed=0,
        max_new_tokens=tokens,
        max_draft=longest,
        hidden_state=hidden,
    )
    with TraceWriter(path, metadata) as writer:
        for sequence in range(sequences):
            writer.write(_rollouts(sequence, tokens, longest))
    return path


def _rollouts(sequence: int, tokens: int, longest: int) -> Rollouts:
    chance = torch.Generator().manual_seed(sequence)
    accepted = torch.rand(tokens, longest, generator=chance) < 0.7
    state = torch.randn(tokens, longest, WIDTH, generator=chance)
    state[:, 1:, 0] = torch.where(accepted[:, :-1], 2.0, -2.0)
    q = torch.rand(tokens, longest, generator=chance)
    limit = tokens - 1 - torch.arange(tokens)
    columns = dict.fromkeys(("entropy", "max_probability", "margin", "drawn_probability", "beta"), q) | {
        "token": torch.zeros(tokens, longest, dtype=torch.long),
        "acceptance": accepted.float(),
        "accepted": accepted.long().cumprod(1).bool(),
        "top_token": torch.zeros(tokens, longest, dtype=torch.long),
        "hidden_state": state,
    }
    zeros = torch.zeros(tokens, dtype=torch.long)
    return Rollouts(sequence, zeros, zeros, limit, limit.clamp(max=longest), columns)
