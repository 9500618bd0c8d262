"""`Recorder`: the role of an engine that records; what it is asked, and what it gives back."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from stopkit.conditions import conditions
from stopkit.engine import Engine
from stopkit.errors import InputError
from stopkit.generation import GenerationOptions
from stopkit.prompt_kinds import Prompt
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
    done: frozenset[int] = frozenset()
    """Sequences to leave out. They still count as members of their batch, so that the others come out the same."""


class Identity(NamedTuple):
    """Which models and which tokens an engine works with."""

    target: Mapping[str, Any]
    """`name`, `dtype`, and `hash` of the weights."""
    draft: Mapping[str, Any]
    tokenizer: str
    """Hash of the vocabulary; empty without a tokenizer."""


class Timings(BaseModel):
    """Seconds that an engine measured at batch 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    draft_step: float = Field(gt=0, description="seconds of one draft forward")
    verify: tuple[float, ...] = Field(min_length=1, description="seconds to verify a block of 0, 1, 2, … tokens")


@dataclass(frozen=True)
class Rollouts:
    """All rollouts of one sequence, R = N starts, on the CPU."""

    sequence: int
    last_token: Tensor
    """[N] long, the token before each start."""
    output: Tensor
    """[N] long, the target's own tokens."""
    limit: Tensor
    """[N] long, most tokens that an engine could draft at each start."""
    drafted: Tensor
    """[N] long, tokens of each rollout, at most K: cut by the limit, the longest rollout, and an end of sequence."""
    columns: Mapping[str, Tensor]
    """By name, [N, K, ...]: what a trace holds of every position; without meaning past `drafted`."""
    length: Tensor | None = None
    """[N] long, tokens before each start, the prompt's included; None if it is not told."""
    entropy: Tensor | None = None
    """[N], nats, the target's entropy where it gave each of its tokens, as policies are told; None likewise."""

    @classmethod
    def joined(cls, parts: Sequence["Rollouts"]) -> "Rollouts":
        """Rollouts from consecutive starts of one sequence as one."""
        first = parts[0]
        names = ("last_token", "output", "limit", "drafted", "length", "entropy")
        of_starts = {
            name: torch.cat([getattr(part, name) for part in parts])
            for name in names
            if getattr(first, name) is not None
        }
        output, drafted = of_starts["output"], of_starts["drafted"]
        columns: dict[str, Tensor] = {}
        for name, like in max((part.columns for part in parts), key=len).items():  # empty where nothing was drafted
            columns[name] = like.new_zeros(len(output), int(drafted.max()), *like.shape[2:])
            places = torch.split(columns[name], [len(part.output) for part in parts])
            for part, place in zip(parts, places, strict=True):
                if part.columns:
                    place[:, : part.columns[name].shape[1]] = part.columns[name]
        return cls(sequence=first.sequence, columns=columns, **of_starts)


class Recorder(ABC):
    """What an engine that can record also is."""

    @abstractmethod
    def loaded(self) -> dict[str, Any]:
        """As that of an engine."""

    def conditions(self, **config: Any) -> dict[str, Any]:
        """Hardware, versions and `config` where it records, as `stopkit.conditions` tells them."""
        return conditions(**config, loaded=self.loaded())

    @abstractmethod
    def record(self, request: RecordingRequest) -> Iterator[Rollouts]:
        """The request's sequences, in any order, each with a rollout from every start.

        Raises InputError if it cannot.
        """

    @abstractmethod
    def identity(self) -> Identity:
        """What tells its models and tokens from others. Raises InputError if it cannot record."""

    @abstractmethod
    def timings(self, max_draft: int, length: int = 128) -> Timings:
        """Seconds of a draft step, and to verify blocks of 0 … `max_draft` tokens, `length` tokens into a sequence.

        Takes a few seconds, at batch 1. Raises InputError if it cannot record.
        """


def as_recorder(engine: Engine) -> Recorder:
    """`engine` in that role. Raises InputError if it does not have it."""
    if not isinstance(engine, Recorder):
        raise InputError(f"engine.kind: {engine.kind} cannot record; eager can.")
    return engine


def replaced(error: InputError, places: Sequence[int]) -> InputError:
    """The same error about `prompts[i]`, which is `prompts[places[i]]` to whoever asked."""
    return InputError(re.sub(r"^prompts\[(\d+)\]", lambda match: f"prompts[{places[int(match[1])]}]", str(error)))
