"""What is asked of an engine that records, and what it gives back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stopkit.engine import GenerationOptions, Prompt
from stopkit.random import RandomSource, SeededRandomSource


@dataclass(frozen=True)
class RecordingRequest:
    """What to record. The prompts are sequences of one recording, and their numbers in it are `sequences`."""

    prompts: Sequence[Prompt]
    sequences: Sequence[int]
    seeds: Sequence[int]
    """A seed a sequence; the rollouts' seeds follow from it, so that a recording can be cut anywhere."""
    options: GenerationOptions
    max_draft: int
    """Most tokens of a rollout."""
    batch_size: int = 8
    """Prompts that are sampled side by side."""
    rollouts: int = 64
    """Rollouts side by side; bounds memory."""
    top_k_logits: int = 0
    """Logits to keep at every position; 0 keeps none."""
    hidden_state: bool = False
    """Whether to keep the draft's last hidden state."""
    source: Callable[[Sequence[int], torch.device], RandomSource] = SeededRandomSource
    """Makes the random source of rows with these seeds."""


@dataclass(frozen=True)
class Rollouts:
    """All rollouts of one sequence, R = N starts, on the CPU."""

    sequence: int
    output: Tensor
    """[N] long, the target's own tokens."""
    limit: Tensor
    """[N] long, most tokens that an engine could draft at each start."""
    drafted: Tensor
    """[N] long, tokens of each rollout, at most K: cut by the limit, the longest rollout, and an end of sequence."""
    columns: Mapping[str, Tensor]
    """By name, [N, K, ...]: what a trace holds of every position; without meaning past `drafted`."""

    @classmethod
    def joined(cls, parts: Sequence["Rollouts"]) -> "Rollouts":
        """Rollouts from consecutive starts of one sequence as one."""
        longest = max(int(part.drafted.max()) for part in parts)
        return cls(
            parts[0].sequence,
            *(torch.cat([getattr(part, name) for part in parts]) for name in ("output", "limit", "drafted")),
            {
                name: torch.cat([_widened(part.columns[name], longest) for part in parts])
                for name in max((part.columns for part in parts), key=len)
            },
        )


def _widened(column: Tensor, width: int) -> Tensor:
    missing = width - column.shape[1]
    return torch.cat([column, column.new_zeros(len(column), missing, *column.shape[2:])], 1) if missing else column
