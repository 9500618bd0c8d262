"""Prompts to token ids, and the checks that every engine with a batch of its own makes of them."""

from collections.abc import Sequence
from typing import Any, cast

from stopkit.errors import InputError, one_line
from stopkit.prompt_kinds import Chat, Prompt, is_chat


def encoded(prompts: Sequence[Prompt], tokenizer: Any | None, vocabulary: int, context: int) -> list[list[int]]:
    """The token ids of each prompt. Raises InputError, with the prompt's place, for one that cannot be continued.

    `vocabulary` is the target's, and `context` the most tokens that a sequence of it can have.
    """
    return [encode(prompt, index, tokenizer, vocabulary, context) for index, prompt in enumerate(prompts)]


def encode(prompt: Prompt, index: int, tokenizer: Any | None, vocabulary: int, context: int) -> list[int]:
    """The token ids of the prompt at `index`."""
    where = f"prompts[{index}]"
    text = isinstance(prompt, str) or is_chat(prompt)
    ids = _tokenized(prompt, tokenizer, where) if text else cast(Sequence[int], prompt)
    if not ids:
        raise InputError(f"{where}: is empty; give at least one token to continue.")
    if foreign := next((token for token in ids if not 0 <= token < vocabulary), None):
        raise InputError(f"{where}: token {foreign} is not in the vocabulary of {vocabulary}.")
    if len(ids) >= context:
        raise InputError(
            f"{where}: has {len(ids)} tokens, and the target's context is {context}; "
            f"shorten it to at most {context - 1}."
        )
    return list(ids)


def _tokenized(prompt: Prompt, tokenizer: Any | None, where: str) -> list[int]:
    """The token ids of text or chat messages. What begins with the special token of a beginning gets no second one."""
    if tokenizer is None:
        kind = "text" if isinstance(prompt, str) else "chat messages"
        raise InputError(f"{where}: is {kind}, and this engine was given no tokenizer; give token ids.")
    text = prompt if isinstance(prompt, str) else _rendered(cast(Chat, prompt), tokenizer, where)
    rendered = {} if isinstance(prompt, str) else {"add_special_tokens": False}  # a template has them in it
    try:
        ids: list[int] = tokenizer(text, **rendered)["input_ids"]
    except Exception as error:  # tokenizers raise errors of any kind over what they do not know
        raise InputError(f"{where}: the tokenizer refuses it: {one_line(error) or type(error).__name__}.") from error
    begin = getattr(tokenizer, "bos_token", None)
    return ids[1:] if begin and text.startswith(begin) and ids[:2] == [tokenizer.bos_token_id] * 2 else ids


def _rendered(chat: Chat, tokenizer: Any, where: str) -> str:
    """The messages as the model's template writes them, up to where it is to answer, or to go on with its answer."""
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(f"{where}: is chat messages, and the target's tokenizer has no chat template; give text.")
    answered = chat[-1]["role"] == "assistant"
    try:
        return str(
            tokenizer.apply_chat_template(
                list(chat), tokenize=False, add_generation_prompt=not answered, continue_final_message=answered
            )
        )
    except Exception as error:  # the template is a program of the model's
        raise InputError(f"{where}: the model's chat template refuses these messages: {one_line(error)}.") from error
