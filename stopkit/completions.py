"""Run prompts that a user wrote through an engine, and turn every completion into a row."""

from collections.abc import Callable
from typing import Any

from stopkit.engine import Engine
from stopkit.errors import InputError
from stopkit.generation import GenerationOptions, GenerationResult, Piece
from stopkit.policy import StoppingPolicy
from stopkit.prompts import Batch
from stopkit.state import State


def complete(
    engine: Engine,
    policy: StoppingPolicy,
    batch: Batch,
    options: GenerationOptions,
    on_piece: Callable[[Piece], None] | None = None,
    state: State | None = None,
    batch_size: int | None = None,
) -> GenerationResult:
    """Generate for the prompts of `batch`; an InputError about a prompt says where that prompt was written.

    They decode side by side, or `batch_size` of them at a time.
    """
    fields = options.model_dump(exclude_unset=True)
    try:
        return engine.generate(
            batch.contents,
            policy,
            seeds=batch.seeds,
            on_piece=on_piece,
            state=state,
            batch_size=batch_size,
            **fields,
        )
    except InputError as error:
        raise batch.place(error) from error


def rows(
    name: str, engine: Engine, options: GenerationOptions, batch_size: int, batch: Batch, result: GenerationResult
) -> list[dict[str, Any]]:
    """A row for every completion that was begun. Forwards and seconds are those of the rounds that it took part in.

    `tokens` counts them, as everywhere; `token_ids` are the tokens.
    """
    return [
        {
            "policy": name,
            "engine": engine.kind,
            "temperature": options.temperature,
            **({} if result.in_force is None else result.in_force._asdict()),
            "batch_size": batch_size,
            "speedup": None,
            **(continuation.stats + continuation.shared).as_dict(),
            "prompt": prompt.prompt,
            "text": continuation.text,
            "token_ids": continuation.tokens,
            "finish_reason": continuation.finish_reason,
        }
        for prompt, continuation in zip(batch.prompts, result.continuations, strict=True)
        if continuation.tokens
    ]
