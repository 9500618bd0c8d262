"""The host's side of a batch: each sequence's prompt, what it has emitted, and why it ended."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stopkit.errors import InputError
from stopkit.generation import Continuation, GenerationOptions, Origin, Piece, Processor
from stopkit.statistics import Statistics
from stopkit_engines.batch.text import TextStream


@dataclass
class BatchSequence:
    """One prompt and its continuation, whether it waits for a row of the batch, has one, or is done."""

    index: int
    """The place of its prompt among all prompts."""
    prompt: Sequence[int]
    """Token ids."""
    room: int
    """Tokens that can be generated."""
    cramped: bool
    """Whether the context limits `room`, and not the user."""
    stream: TextStream
    processors: Sequence[Processor] = ()
    """What is applied to its logits, those of the model's own included."""
    continuation: Continuation = field(default_factory=Continuation)
    nonfinite_drafts: int = 0
    """Draft steps that were cut because the logits were NaN or infinite."""
    seated_at: Statistics | None = None
    """Forwards and seconds of the batch when the sequence got its row."""
    done_at: Statistics | None = None
    """Forwards and seconds of the batch when the sequence had ended."""

    @property
    def active(self) -> bool:
        """Whether the sequence goes on."""
        return self.continuation.finish_reason is None

    @property
    def length(self) -> int:
        """Tokens so far, prompt included."""
        return len(self.prompt) + len(self.continuation.tokens)

    @property
    def last_token(self) -> int:
        """The token that the next one follows."""
        return (self.continuation.tokens or self.prompt)[-1]

    @property
    def left(self) -> int:
        """Tokens that may still be generated."""
        return self.room - len(self.continuation.tokens)

    def emit(
        self, accepted: Sequence[int], own: int, origin: Origin, ends: Collection[int], heard: bool = True
    ) -> Piece:
        """Take a round's outcome: the accepted draft tokens, then the target's `own` token of that `origin`.

        What follows a token in `ends` or a stop string is dropped. The piece has no text if nobody is to hear it.
        """
        tokens = [*accepted, own]
        origins = [*[Origin.ACCEPTED] * len(accepted), origin]
        ending = next((at + 1 for at, token in enumerate(tokens) if token in ends), None)
        kept = self.stream.push(tokens[:ending])
        done = self.continuation
        done.tokens.extend(tokens[:kept])
        done.origins.extend(origins[:kept])
        if self.stream.stopped:
            done.finish_reason = "stop"
        elif ending is not None:
            done.finish_reason = "eos"
        elif self.left <= 0:
            done.finish_reason = "context" if self.cramped else "length"
        text = self.stream.take(last=not self.active) if heard or not self.active else ""
        return Piece(self.index, tokens[:kept], origins[:kept], text, done.finish_reason)

    def so_far(self, counts: Statistics, batch: Statistics) -> Continuation:
        """The continuation now, with what the controller has counted of it and the batch of forwards and seconds."""
        done = self.continuation
        return replace(
            done,
            tokens=[*done.tokens],
            origins=[*done.origins],
            text=self.stream.readable(),
            stats=replace(counts, tokens=len(done.tokens), nonfinite_drafts=self.nonfinite_drafts),
            shared=_between(self.seated_at, self.done_at or batch) if self.seated_at else Statistics(),
        )


def _between(begin: Statistics, end: Statistics) -> Statistics:
    return Statistics(
        draft_forwards=end.draft_forwards - begin.draft_forwards,
        target_forwards=end.target_forwards - begin.target_forwards,
        seconds={name: seconds - begin.seconds[name] for name, seconds in end.seconds.items()},
    )


def open_sequences(
    prompts: Sequence[Sequence[int]],
    options: GenerationOptions,
    tokenizer: Any | None,
    context: int,
    processors: Callable[[Sequence[int], int], Sequence[Processor]] = lambda prompt, room: (),
) -> list[BatchSequence]:
    """A sequence for each of `prompts`, which are token ids; `processors(prompt, room)` change its logits.

    Raises InputError for stop strings without a tokenizer.
    """
    if options.stop and tokenizer is None:
        raise InputError("generate.stop: stop strings need a tokenizer, and this engine was given none.")
    rooms = [min(options.max_new_tokens, context - len(prompt)) for prompt in prompts]
    return [
        BatchSequence(
            index=index,
            prompt=prompt,
            room=room,
            processors=processors(prompt, room),
            cramped=context - len(prompt) < options.max_new_tokens,
            stream=TextStream(tokenizer, options.stop),
        )
        for index, (prompt, room) in enumerate(zip(prompts, rooms, strict=True))
    ]
