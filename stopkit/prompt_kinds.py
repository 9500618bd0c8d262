"""What people hold as prompts: text, token ids, chat messages, tensors, and what tokenizers return."""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeGuard

from stopkit.errors import InputError, one_line, shown

Chat = Sequence[Mapping[str, Any]]
"""Chat messages, each with a "role" and what was said, as chat templates read them."""
Prompt = str | Sequence[int] | Chat
"""Text, token ids, or chat messages."""

KINDS = "text, token ids, chat messages, or what a tokenizer returns"


def as_prompts(given: Any, padding: Callable[[], int | None] = lambda: None) -> list[Prompt]:
    """`given` as a list of prompts: one prompt or several, of any kind.

    Masked tokens are left out. `padding` tells the token that pads, to find out rows that are padded and come without
    a mask. Raises InputError for anything else, with its place.
    """
    if isinstance(given, str) or is_chat(given):
        return [_prompt(given, "prompts[0]")]
    if isinstance(given, Mapping):
        return _encoded(given, padding)
    if _is_array(given):
        return _rows(given, None, padding)
    if not isinstance(given, Iterable) or isinstance(given, bytes):
        raise InputError(f"prompts: {shown(given)} is no prompt; give {KINDS}.")
    several = list(given)
    if not several:
        raise InputError("prompts: there is none; give at least one.")
    if _is_number(several[0]):
        return [_token_ids(several, "prompts[0]")]
    return [_prompt(each, f"prompts[{index}]") for index, each in enumerate(several)]


def is_chat(given: Any) -> TypeGuard[Chat]:
    """Whether this is chat messages."""
    return isinstance(given, Sequence) and len(given) > 0 and all(isinstance(m, Mapping) and "role" in m for m in given)


def as_chats(given: Any) -> list[Chat]:
    """`given` as a list of chats: one or several. Raises InputError for what is none."""
    if is_chat(given):
        return [given]
    if isinstance(given, Sequence) and len(given) > 0 and all(map(is_chat, given)):
        return list(given)
    raise InputError(
        f'messages: {shown(given)} is no chat; give messages such as {{"role": "user", "content": "Hello"}}, in a list.'
    )


def _prompt(given: Any, where: str) -> Prompt:
    if isinstance(given, str):
        return _text(given, where)
    if is_chat(given):
        return list(given)
    if isinstance(given, Mapping):
        rows = _encoded(given, lambda: None, where)
        if len(rows) == 1:
            return rows[0]
        raise InputError(f"{where}: holds {len(rows)} rows of token ids; give them by themselves, not in a list.")
    if isinstance(given, Iterable) and not isinstance(given, bytes):
        return _token_ids(given, where)
    raise InputError(f"{where}: {shown(given)} is no prompt; give {KINDS}.")


def _text(given: str, where: str) -> str:
    try:
        given.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{where}: character {error.start} is half of a character (a lone surrogate).") from None
    return given


def _encoded(encoding: Mapping[str, Any], padding: Callable[[], int | None], where: str = "prompts") -> list[Prompt]:
    """The rows of what a tokenizer returned."""
    if "input_ids" not in encoding:
        raise InputError(f"{where}: a mapping without input_ids ({shown(list(encoding))}); give {KINDS}.")
    return _rows(encoding["input_ids"], encoding.get("attention_mask"), padding, where)


def _rows(ids: Any, mask: Any, padding: Callable[[], int | None], where: str = "prompts") -> list[Prompt]:
    """The rows of `ids` [L] or [B, L], without what `mask` of the same shape leaves out."""
    rows, masks = _nested(ids, where), None if mask is None else _nested(mask, f"{where}: attention_mask")
    places = [where if where != "prompts" else f"prompts[{index}]" for index in range(len(rows))]
    tokens = [_token_ids(row, place) for row, place in zip(rows, places, strict=True)]
    if masks is None:
        _require_unpadded(tokens, padding, where)
        return list(tokens)
    shapes = [[len(row) for row in tokens], [len(row) for row in masks]]
    if shapes[0] != shapes[1]:
        raise InputError(f"{where}: attention_mask has rows of {shapes[1]} and input_ids of {shapes[0]} tokens.")
    return [_unmasked(*row) for row in zip(tokens, masks, places, strict=True)]


def _unmasked(tokens: Sequence[int], mask: Sequence[Any], where: str) -> list[int]:
    kept = [at for at, seen in enumerate(mask) if seen]
    if kept and kept[-1] - kept[0] + 1 != len(kept):
        raise InputError(f"{where}: its attention_mask leaves out tokens in the middle; only padding can be left out.")
    return [tokens[at] for at in kept]


def _require_unpadded(rows: Sequence[Sequence[int]], padding: Callable[[], int | None], where: str) -> None:
    if len(rows) < 2 or len({len(row) for row in rows}) > 1 or (pad := padding()) is None:
        return
    for edge in (slice(None, 2), slice(None, -3, -1)):
        padded = [index for index, row in enumerate(rows) if list(row[edge])[:1] == [pad]]
        twice = any(list(row[edge]) == [pad, pad] for row in rows)
        if padded and (twice or len(padded) < len(rows)):  # all rows may begin with a token that also pads
            raise InputError(
                f"{where}: row {padded[0]} is padded with token {pad}, which would be taken for a part of the prompt; "
                "give its attention_mask too, as the tokenizer returns it, or rows without padding."
            )


def _nested(values: Any, where: str) -> list[Any]:
    rows = _listed(values, where)
    if not isinstance(rows, Sequence) or isinstance(rows, str):
        raise InputError(f"{where}: {shown(values)} holds no rows of numbers.")
    rows = [_listed(row, where) for row in rows]
    return rows if rows and not _is_number(rows[0]) else [rows]


def _token_ids(given: Iterable[Any], where: str) -> list[int]:
    ids = []
    for at, value in enumerate(_listed(given, where)):
        if not is_whole(value):
            raise InputError(f"{where}[{at}]: {shown(value)} is no token id; give {KINDS}.")
        ids.append(operator.index(value))
    return ids


def _is_array(given: Any) -> bool:
    return hasattr(given, "tolist") and hasattr(given, "ndim")


def _listed(values: Any, where: str) -> Any:
    try:
        return values.tolist() if _is_array(values) else values
    except (RuntimeError, NotImplementedError) as error:
        raise InputError(f"{where}: a tensor that cannot be read: {one_line(error)}.") from None


def is_whole(given: Any) -> bool:
    """Whether this is a whole number, of Python or of an array."""
    try:
        return not isinstance(given, bool) and getattr(given, "ndim", 0) == 0 and operator.index(given) is not None
    except (TypeError, RuntimeError):
        return False


def _is_number(given: Any) -> bool:
    return isinstance(given, (int, float)) or (_is_array(given) and given.ndim == 0)
