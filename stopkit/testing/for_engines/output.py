"""What comes out: when a sequence ends, what is streamed, what is text."""

from collections import defaultdict
from collections.abc import Sequence

from hypothesis import strategies as st

from stopkit.engine import Engine
from stopkit.generation import Continuation, Origin, Piece
from stopkit.testing.checks import Draw
from stopkit.testing.for_engines.workloads import LETTERS, Workload, continued, letters, workloads


def sequences_end_where_they_must(engine: type[Engine], draw: Draw) -> None:
    """At an end-of-sequence token, at `max_new_tokens` or with a full context, with that reason, and nowhere else."""
    work = draw(workloads())
    for row, continuation in enumerate(work.run(engine).continuations):
        tokens, reason = continuation.tokens, continuation.finish_reason
        expected = _reason(work, len(work.prompts[row]), tokens)
        assert expected is not None, f"{tokens} is not what ends a sequence, and it ended with {reason!r}"
        assert reason == expected, f"{tokens} ended with {reason!r} and not with {expected!r}"


def _reason(work: Workload, prompt: int, tokens: Sequence[int]) -> str | None:
    """Why `tokens` may be all; None if they may not."""
    room = work.target.config.max_position_embeddings - prompt
    end = work.target.config.eos_token_id
    if end in tokens:
        return "eos" if tokens.index(end) == len(tokens) - 1 <= min(room, work.max_new_tokens) - 1 else None
    if len(tokens) != min(room, work.max_new_tokens):
        return None
    return "context" if room < work.max_new_tokens else "length"


def what_is_streamed_is_what_is_returned(engine: type[Engine], draw: Draw) -> None:
    """The pieces given to `on_piece` add up to the result: tokens, origins, text and the reason of the end."""
    work = draw(workloads())
    pieces: dict[int, list[Piece]] = defaultdict(list)
    tokenizer = letters(work.target.config.vocab_size)
    result = work.run(engine, tokenizer, on_piece=lambda piece: pieces[piece.sequence].append(piece))
    for row, continuation in enumerate(result.continuations):
        streamed = Continuation(
            tokens=[token for piece in pieces[row] for token in piece.tokens],
            origins=[origin for piece in pieces[row] for origin in piece.origins],
            text="".join(piece.text for piece in pieces[row]),
            finish_reason=pieces[row][-1].finish_reason if pieces[row] else None,
        )
        for name in ("tokens", "origins", "text", "finish_reason"):
            sent, returned = getattr(streamed, name), getattr(continuation, name)
            assert sent == returned, f"{name} of sequence {row}: {sent} streamed, {returned} returned"
        assert all(piece.finish_reason is None for piece in pieces[row][:-1]), (
            f"sequence {row} was said to be finished before its last piece"
        )
        assert len(pieces[row]) == continuation.stats.rounds, (
            f"sequence {row} was given {len(pieces[row])} pieces in {continuation.stats.rounds} rounds"
        )


def origins_tell_drafted_tokens_from_the_targets_own(engine: type[Engine], draw: Draw) -> None:
    """Every token has an origin; a round gives its accepted tokens and then one of the target's own."""
    work = draw(workloads(may_end=False))
    pieces: list[Piece] = []
    result = work.run(engine, on_piece=pieces.append)
    for piece in pieces:
        *before, own = piece.origins
        assert set(before) <= {Origin.ACCEPTED}, f"a round gave the origins {[*map(str, piece.origins)]}"
        assert own in (Origin.RESIDUAL, Origin.BONUS), f"the last token of a round is said to be {str(own)!r}"
    for row, continuation in enumerate(result.continuations):
        assert len(continuation.origins) == len(continuation.tokens), (
            f"{len(continuation.tokens)} tokens have {len(continuation.origins)} origins"
        )
        claimed, counted = continuation.origins.count(Origin.ACCEPTED), continuation.stats.accepted
        assert claimed == counted, f"{claimed} tokens of sequence {row} are said to be accepted, and {counted} were"


def stop_strings_end_the_text(engine: type[Engine], draw: Draw) -> None:
    """The text is cut before the first stop string, the tokens after the one that completed it."""
    work = draw(workloads(temperature=0.0, may_end=False))
    vocabulary = work.target.config.vocab_size
    stop = draw(st.lists(st.text(LETTERS[:vocabulary], min_size=1, max_size=3), min_size=1, max_size=2, unique=True))
    texts = ["".join(LETTERS[token] for token in prompt) for prompt in work.prompts]
    result = work.run(engine, letters(vocabulary), prompts=texts, stop=stop)
    for prompt, continuation in zip(work.prompts, result.continuations, strict=True):
        tokens = continued(work.target, prompt, work.max_new_tokens)
        expected = _cut(tokens, stop)
        returned = (continuation.tokens, continuation.text, continuation.finish_reason)
        assert returned == expected, (
            f"{tokens} spelt in letters and stopped by {stop} is {expected}, and not {returned}"
        )


def _cut(tokens: list[int], stop: Sequence[str]) -> tuple[list[int], str, str]:
    text = ""
    for count, token in enumerate(tokens, start=1):
        text += LETTERS[token]
        if places := [text.index(each) for each in stop if each in text]:
            return tokens[:count], text[: min(places)], "stop"
    return tokens, text, "length"
