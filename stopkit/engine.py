"""The engine interface: how a policy's decisions become tokens. `stopkit.decode` runs the one loop over it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from stopkit.costs import FixedCosts
from stopkit.errors import InputError
from stopkit.policy import Drawn, RoundContext, Signals, StoppingPolicy
from stopkit.random import RandomSource
from stopkit.sampling import Sampling
from stopkit.state import State
from stopkit.statistics import Statistics, Stopwatch
from stopkit.validation import validated

if TYPE_CHECKING:
    from stopkit.controller import DraftController
    from stopkit.trace.record import Identity, RecordingRequest, Rollouts, Timings

Prompt = str | Sequence[int]
"""Text, or token ids."""


class Origin(StrEnum):
    """Where a token came from. A round that drafted nothing emits a bonus token."""

    ACCEPTED = "accepted"
    RESIDUAL = "residual"
    BONUS = "bonus"


class Piece(NamedTuple):
    """What one round added to one sequence, given to the streaming callback."""

    sequence: int
    """Index of the prompt."""
    tokens: Sequence[int]
    origins: Sequence[Origin]
    text: str
    """Text that became certain; a character or stop string that may still grow is held back."""
    finish_reason: str | None


@dataclass
class Continuation:
    """What was generated after one prompt."""

    tokens: list[int] = field(default_factory=list)
    """Token ids, prompt excluded; the end-of-sequence token or the one that completed a stop string included."""
    origins: list[Origin] = field(default_factory=list)
    """Where each token came from."""
    text: str = ""
    """Decoded text, special tokens left out, cut before a stop string."""
    finish_reason: str | None = None
    """"eos", "stop", "length" (max_new_tokens), "context" (the target's context is full), None while unfinished."""
    stats: Statistics = field(default_factory=Statistics)
    """This sequence's counts; forwards and seconds belong to the batch and are zero here."""


@dataclass
class GenerationResult:
    """What `Engine.generate` returns: one continuation a prompt, in order."""

    continuations: list[Continuation]
    stats: Statistics
    """Totals of the batch."""
    state: State
    """What the policy remembers; rows are the sequences."""

    @property
    def text(self) -> list[str]:
        """The continuations' text."""
        return [continuation.text for continuation in self.continuations]

    @property
    def tokens(self) -> list[list[int]]:
        """The continuations' token ids."""
        return [continuation.tokens for continuation in self.continuations]


class GenerationOptions(Sampling):
    """How to generate: the options of `Engine.generate` that a config file can set."""

    max_new_tokens: int = Field(default=128, ge=1, description="most tokens to generate for a prompt")
    seed: int = Field(default=0, ge=0, description="seed of the run; every sequence gets its own from it")
    stop: tuple[str, ...] = Field(default=(), description="strings that end a continuation; not part of its text")


@dataclass(frozen=True)
class Request:
    """One batch to generate."""

    prompts: Sequence[Prompt]
    options: GenerationOptions
    seeds: Sequence[int] | None = None
    """A seed a sequence, instead of those that `options.seed` gives."""
    random: RandomSource | None = None
    """Instead of a seeded source."""
    logits_processor: Sequence[Callable[[Tensor, Tensor], Tensor]] = ()
    """transformers logits processors, applied to p and q alike before temperature."""
    signals: frozenset[str] = frozenset()
    """The signals to compute at every draft step."""
    on_piece: Callable[[Piece], None] | None = None
    """Called for every sequence in every round that added to it."""


class Proposal(NamedTuple):
    """One draft forward, before anything is drawn."""

    signals: Signals
    usable: Tensor
    """[B] bool, false where the draft's logits were NaN or infinite: the row's block ends here."""


class Commitment(NamedTuple):
    """The tokens drawn for the live rows."""

    drawn: Drawn
    more: Tensor
    """[B] bool, false where drafting on is pointless, e.g. after an end-of-sequence token."""


class Verdict(NamedTuple):
    """One verification."""

    accepted: Tensor
    """[B] long."""
    seconds: float | Tensor
    """What the round took, by the clock or by fixed costs; [B] if the rows are engines of their own."""


class Decoding(ABC):
    """One batch being generated. `propose` and `commit` extend the block, `verify` ends the round."""

    batch_size: int
    device: torch.device
    stopwatch: Stopwatch

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether every sequence has ended."""

    @abstractmethod
    def context(self) -> RoundContext:
        """What is known before the next round."""

    @abstractmethod
    def propose(self, live: Tensor) -> Proposal:
        """One draft forward for the rows in `live` (bool [B]); nothing is drawn yet."""

    @abstractmethod
    def commit(self, live: Tensor) -> Commitment:
        """Draw the next token of the rows in `live` from the proposed distribution; they are in the block for good."""

    @abstractmethod
    def verify(self) -> Verdict:
        """One target forward over the blocks: accept, add a residual or bonus token, rewind the caches."""

    @abstractmethod
    def result(self, controller: "DraftController") -> GenerationResult:
        """What has been produced so far; can be asked at any time."""


class Engine(BaseModel, ABC):
    """Makes tokens with a target and a draft model. Fields are its config block; `kind` is its name there."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: ClassVar[str]
    enumerable: ClassVar[bool] = True
    """Whether every random choice goes through `Request.random` where one is given."""

    costs: FixedCosts | None = Field(default=None, description="fixed seconds a step, instead of measured ones")

    @classmethod
    @abstractmethod
    def from_models(cls, target: Any, draft: Any | None = None, tokenizer: Any | None = None, **fields: Any) -> Self:
        """An engine over models that are loaded already; without a tokenizer prompts are token ids."""

    @abstractmethod
    def start(self, request: Request) -> Decoding:
        """Begin a batch. Raises InputError for prompts or options that it cannot serve."""

    def token_texts(self, tokens: Sequence[int]) -> list[str]:
        """What each token adds to the text of `tokens`, for display; "" while a character is unfinished or unknown."""
        return [""] * len(tokens)

    def record(self, request: "RecordingRequest") -> "Iterator[Rollouts]":
        """The request's sequences, in order, each with a rollout from every start. Raises InputError if it cannot."""
        raise self._cannot_record()

    def identity(self) -> "Identity":
        """What tells its models and tokens from others. Raises InputError if it cannot record."""
        raise self._cannot_record()

    def timings(self, max_draft: int, length: int = 128) -> "Timings":
        """Seconds of a draft step, and to verify blocks of 0 … `max_draft` tokens, `length` tokens into a sequence.

        Takes a few seconds, at batch 1. Raises InputError if it cannot record.
        """
        raise self._cannot_record()

    def _cannot_record(self) -> InputError:
        return InputError(f"engine.kind: {self.kind} cannot record; eager can.")

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        policy: "StoppingPolicy | str | dict[str, Any]",
        *,
        seeds: Sequence[int] | None = None,
        random: RandomSource | None = None,
        logits_processor: Sequence[Callable[[Tensor, Tensor], Tensor]] = (),
        on_piece: Callable[[Piece], None] | None = None,
        state: State | None = None,
        **options: Any,
    ) -> GenerationResult:
        """Continue `prompts`, one batch side by side. `options` are the fields of GenerationOptions.

        The output's distribution is the target's own whatever the policy. A sequence's output depends on its prompt
        and seed, not on its neighbours, unless the policy couples them. `state` goes on from an earlier result's: row
        by row if there are as many prompts, else with what its sequences shared.

        Raises InputError for bad input and GenerationError when the target or the policy fails. Whatever stops a
        generation, an interrupt included, carries the result so far in its `partial` attribute.
        """
        from stopkit.config import load_policy
        from stopkit.decode import decode

        chosen = load_policy(policy)
        batch = [prompts] if _is_one(prompts) else list(prompts)
        if not batch:
            raise InputError("prompts: there is none; give at least one.")
        if seeds is not None and len(seeds) != len(batch):
            raise InputError(f"seeds: {len(seeds)} for {len(batch)} prompts; give one for each.")
        request = Request(
            prompts=batch,  # type: ignore[arg-type]
            options=validated(GenerationOptions, options, "generate"),
            seeds=seeds,
            random=random,
            logits_processor=logits_processor,
            signals=chosen.required_signals,
            on_piece=on_piece,
        )
        with torch.inference_mode():
            decoding = self.start(request)
            return decoding.result(decode(chosen, decoding, state))


def _is_one(prompts: Any) -> bool:
    return isinstance(prompts, str) or (len(prompts) > 0 and isinstance(prompts[0], int))
