"""Prompts to token ids, and the checks that every engine with a batch of its own makes of them."""

from collections.abc import Sequence
from typing import Any

from stopkit.errors import InputError
from stopkit.generation import Prompt


def encoded(prompts: Sequence[Prompt], tokenizer: Any | None, vocabulary: int, context: int) -> list[list[int]]:
    """The token ids of each prompt. Raises InputError, with the prompt's place, for one that cannot be continued.

    `vocabulary` is the target's, and `context` the most tokens that a sequence of it can have.
    """
    return [encode(prompt, index, tokenizer, vocabulary, context) for index, prompt in enumerate(prompts)]


def encode(prompt: Prompt, index: int, tokenizer: Any | None, vocabulary: int, context: int) -> list[int]:
    """The token ids of the prompt at `index`."""
    if not isinstance(prompt, str):
        ids = list(prompt)
    elif tokenizer is None:
        raise InputError(f"prompts[{index}]: is text, and this engine was given no tokenizer; give token ids.")
    else:
        ids = tokenizer(prompt)["input_ids"]
    if not ids:
        raise InputError(f"prompts[{index}]: is empty; give at least one token to continue.")
    if foreign := next((token for token in ids if not 0 <= token < vocabulary), None):
        raise InputError(f"prompts[{index}]: token {foreign} is not in the vocabulary of {vocabulary}.")
    if len(ids) >= context:
        raise InputError(
            f"prompts[{index}]: has {len(ids)} tokens, and the target's context is {context}; "
            f"shorten it to at most {context - 1}."
        )
    return ids
