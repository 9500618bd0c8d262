"""Run batches of prompts through an engine and turn every completion into a row."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from stopkit.engine import Engine
from stopkit.errors import InputError
from stopkit.generation import GenerationOptions, GenerationResult, Piece
from stopkit.policy import StoppingPolicy
from stopkit.prompts import Batch
from stopkit.state import State

Done = tuple[Batch, GenerationResult]


def complete(
    engine: Engine,
    policy: StoppingPolicy,
    batch: Batch,
    options: GenerationOptions,
    on_piece: Callable[[Piece], None] | None = None,
    state: State | None = None,
) -> GenerationResult:
    """Generate for one batch; an InputError about a prompt says where that prompt was written."""
    fields = options.model_dump()
    try:
        return engine.generate(batch.texts, policy, seeds=batch.seeds, on_piece=on_piece, state=state, **fields)
    except InputError as error:
        raise batch.place(error) from error


def complete_all(
    engine: Engine,
    policy: StoppingPolicy,
    parts: Sequence[Batch],
    options: GenerationOptions,
    on_piece: Callable[[Piece], None] | None = None,
    state: State | None = None,
) -> Iterator[Done]:
    """Every batch with its result, in order. What stops a batch early is raised after its partial result was given.

    The first batch continues from `state`, each later one from what outlived the batch before.
    """
    for batch in parts:
        try:
            result = complete(engine, policy, batch, options, on_piece, state)
            state = result.state.outlived()
        except BaseException as stopped:
            if partial := getattr(stopped, "partial", None):
                yield batch, partial
            raise
        yield batch, result


def rows(name: str, engine: Engine, options: GenerationOptions, batch_size: int, done: Sequence[Done]) -> list[Any]:
    """A row for every completion. Forwards and seconds are those of the batch that it was part of.

    `tokens` counts them, as everywhere; `token_ids` are the tokens.
    """
    return [
        {
            "policy": name,
            "engine": engine.kind,
            "temperature": options.temperature,
            "batch_size": batch_size,
            "speedup": None,
            **replace(
                continuation.stats,
                draft_forwards=result.stats.draft_forwards,
                target_forwards=result.stats.target_forwards,
                seconds=result.stats.seconds,
            ).as_dict(),
            "prompt": prompt.text,
            "text": continuation.text,
            "token_ids": continuation.tokens,
            "finish_reason": continuation.finish_reason,
        }
        for batch, result in done
        for prompt, continuation in zip(batch.prompts, result.continuations, strict=True)
    ]
