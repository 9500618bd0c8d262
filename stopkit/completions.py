"""Run prompts that a user wrote through an engine, and turn every completion into a row."""

from collections.abc import Callable, Sequence
from typing import Any, cast

from stopkit.engine import Engine
from stopkit.errors import InputError
from stopkit.generation import GenerationOptions, GenerationResult, Piece
from stopkit.policy import StoppingPolicy
from stopkit.prompt_kinds import Chat
from stopkit.prompts import Batch, WrittenPrompt, batches
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


def every_turn(
    engine: Engine,
    policy: StoppingPolicy,
    prompts: Sequence[WrittenPrompt],
    options: GenerationOptions,
    batch_size: int | None = None,
) -> list[WrittenPrompt]:
    """A prompt for each turn of each conversation: a later one holds what the engine answered to those before.

    Prompts of one turn stay as they are. Raises what `complete` raises.
    """
    turns = [[prompt._replace(then=())] for prompt in prompts]
    left = {number: prompt for number, prompt in enumerate(prompts) if prompt.then}
    while left:
        (batch,) = batches([*left.values()], len(left), options.seed)
        answers = complete(engine, policy, batch, options, batch_size=batch_size).text
        for (number, prompt), answer in zip([*left.items()], answers, strict=True):
            said, *then = prompt.then
            messages = [
                *cast(Chat, prompt.prompt),
                {"role": "assistant", "content": answer},
                {"role": "user", "content": said},
            ]
            turns[number].append(WrittenPrompt(messages, f"{prompts[number].where}, turn {len(turns[number]) + 1}"))
            left[number] = turns[number][-1]._replace(then=tuple(then))
        left = {number: prompt for number, prompt in left.items() if prompt.then}
    return [prompt for several in turns for prompt in several]


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
