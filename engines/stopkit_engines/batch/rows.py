"""The host's side of a batch: what each sequence has emitted, and why it ended."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from stopkit.generation import Continuation, Origin, Piece
from stopkit_engines.batch.text import TextStream


@dataclass
class Row:
    """One sequence. `prompt` and `room` are in tokens; `cramped` says that the context, not the user, limits `room`."""

    prompt: int
    room: int
    cramped: bool
    stream: TextStream
    continuation: Continuation = field(default_factory=Continuation)

    @property
    def active(self) -> bool:
        """Whether the sequence goes on."""
        return self.continuation.finish_reason is None

    @property
    def length(self) -> int:
        """Tokens so far, prompt included."""
        return self.prompt + len(self.continuation.tokens)

    @property
    def left(self) -> int:
        """Tokens that may still be generated."""
        return self.room - len(self.continuation.tokens)

    def emit(self, index: int, accepted: Sequence[int], own: int, origin: Origin, ends: Collection[int]) -> Piece:
        """Take a round's outcome: the accepted draft tokens, then the target's `own` token of that `origin`.

        What follows a token in `ends` or a stop string is dropped.
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
        elif self.left == 0:
            done.finish_reason = "context" if self.cramped else "length"
        text = self.stream.take(last=not self.active)
        done.text = self.stream.text
        return Piece(index, tokens[:kept], origins[:kept], text, done.finish_reason)
