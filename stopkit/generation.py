"""What is asked of a generation, and what comes of it: options, a request, pieces as they come, the result."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field
from torch import Tensor

from stopkit.prompt_kinds import Prompt
from stopkit.random import RandomSource
from stopkit.sampling import Sampling
from stopkit.state import State
from stopkit.statistics import Statistics

Processor = Callable[[Tensor, Tensor], Tensor]
"""A transformers logits processor: what the tokens [B, L] so far and the scores [B, V] make of the scores."""


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
    shared: Statistics = field(default_factory=Statistics)
    """Forwards and seconds of the rounds that it took part in, which it shares with the sequences beside it."""


class InForce(NamedTuple):
    """How tokens were sampled, with what the target's generation config asks for."""

    sampling: dict[str, Any]
    """temperature, top_k, top_p and min_p; what is unset is left out."""
    processors: tuple[str, ...] = ()
    """The logits processors that were applied, in order."""
    undone: tuple[str, ...] = ()
    """What the target's generation config asks of `generate` and was not done."""


@dataclass
class GenerationResult:
    """What `Engine.generate` returns: one continuation a prompt, in order."""

    continuations: list[Continuation]
    stats: Statistics
    """Totals of all sequences."""
    state: State
    """What the policy remembers; rows are the sequences."""
    in_force: InForce | None = None
    """How tokens were sampled, if the engine says so."""

    @property
    def text(self) -> list[str]:
        """The continuations' text."""
        return [continuation.text for continuation in self.continuations]

    @property
    def tokens(self) -> list[list[int]]:
        """The continuations' token ids."""
        return [continuation.tokens for continuation in self.continuations]


def _several(stop: Any) -> Any:
    return (stop,) if isinstance(stop, str) else stop


class GenerationOptions(Sampling):
    """How to generate: the options of `Engine.generate` that a config file can set."""

    max_new_tokens: int = Field(default=128, ge=1, description="most tokens to generate for a prompt")
    seed: int = Field(default=0, ge=0, description="seed of the run; every sequence gets its own from it")
    coupling: Literal["maximal", "invariant"] = Field(
        default="maximal",
        description="how draft and target are drawn together: maximal accepts most; with invariant the text is a "
        "function of prompt and seed, whatever is drafted",
    )
    sampling: Literal["given", "model"] = Field(
        default="given", description="whose temperature and truncation: those given here, or the target's own"
    )
    stop: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_several)] = Field(
        default=(), description="strings that end a continuation, or one; not part of its text"
    )


@dataclass(frozen=True)
class Request:
    """Prompts to continue, and how."""

    prompts: Sequence[Prompt]
    options: GenerationOptions
    seeds: Sequence[int] | None = None
    """A seed a sequence, instead of those that `options.seed` gives."""
    random: RandomSource | None = None
    """Instead of a seeded source."""
    logits_processor: Sequence[Processor] = ()
    """transformers logits processors, applied to p and q alike before temperature."""
    signals: frozenset[str] = frozenset()
    """The signals to compute at every draft step."""
    context: frozenset[str] = frozenset()
    """What of a round's context has to be known; see `StoppingPolicy.context`."""
    on_piece: Callable[[Piece], None] | None = None
    """Called for every sequence in every round that added to it."""
    batch_size: int | None = None
    """Most prompts that decode side by side; the next one takes the place of one that is done. All, if unset."""
    state: State | None = None
    """What the policy remembers, to go on from."""

    @property
    def rows(self) -> int:
        """Prompts that decode side by side."""
        return min(self.batch_size or len(self.prompts), len(self.prompts))
