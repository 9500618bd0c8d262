"""The tokenizer in a GGUF file, by llama.cpp, with what the rest of stopkit asks of a tokenizer."""

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from tokenizers import AddedToken
from transformers.utils.chat_template_utils import render_jinja_template

from stopkit.errors import InputError
from stopkit_engines.llamacpp.model import GgufModel

NONE = -1
"""What llama.cpp gives for a special token that there is not."""


class GgufTokenizer:
    """Text to token ids and back, as llama.cpp does it for `model`."""

    def __init__(self, model: GgufModel) -> None:
        self._model, self._llama, self._vocab = model, model.llama, model.vocab

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        """The `input_ids` of a text. Special tokens that are written out in it are taken for what they are."""
        raw = text.encode()

        def written(into: Any, room: int) -> int:
            return int(self._llama.llama_tokenize(self._vocab, raw, len(raw), into, room, add_special_tokens, True))

        return {"input_ids": list(_filled(written, ctypes.c_int32, len(raw) + 2))}

    def decode(self, tokens: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of `tokens`, one after another as they are; what is no whole character is �.

        llama.cpp's own way to write several would take spaces away before punctuation.
        """
        return b"".join(self._piece(token, not skip_special_tokens) for token in tokens).decode(errors="replace")

    def _piece(self, token: int, special: bool) -> bytes:
        def written(into: Any, room: int) -> int:
            return int(self._llama.llama_token_to_piece(self._vocab, token, into, room, 0, special))

        return bytes(_filled(written, ctypes.c_char, 32))

    def convert_ids_to_tokens(self, token: int) -> str:
        """What the vocabulary calls a token."""
        return str((self._llama.llama_vocab_get_text(self._vocab, token) or b"").decode(errors="replace"))

    def tokens(self) -> Iterator[tuple[str, bool]]:
        """What each token is called, and whether it is special, which is no text; in order."""
        control = self._llama.LLAMA_TOKEN_ATTR_CONTROL
        for token in range(self._model.vocabulary):
            attributes = self._llama.llama_vocab_get_attr(self._vocab, token)
            yield self.convert_ids_to_tokens(token), bool(attributes & control)

    @cached_property
    def added_tokens_decoder(self) -> Mapping[int, AddedToken]:
        """The special tokens, by their ids."""
        return {token: AddedToken(name, special=True) for token, (name, special) in enumerate(self.tokens()) if special}

    @property
    def bos_token_id(self) -> int | None:
        """The token that begins a text."""
        return _there_is(self._llama.llama_vocab_bos(self._vocab))

    @property
    def bos_token(self) -> str | None:
        """What the token that begins a text is called."""
        return self._called(self.bos_token_id)

    @property
    def pad_token_id(self) -> int | None:
        """The token that pads."""
        return _there_is(self._llama.llama_vocab_pad(self._vocab))

    @cached_property
    def chat_template(self) -> str | None:
        """The model's own, a Jinja template; None if there is none."""
        template = self._llama.llama_model_chat_template(self._model.handle, None)
        return template.decode() if template else None

    def apply_chat_template(self, chat: Sequence[Mapping[str, Any]], tokenize: bool = False, **how: Any) -> str:
        """The messages as the template writes them, by transformers, whose environment runs no code of the model's."""
        ends = _there_is(self._llama.llama_vocab_eos(self._vocab))
        names = {"bos_token": self.bos_token or "", "eos_token": self._called(ends) or ""}
        rendered = render_jinja_template([list(chat)], chat_template=self.chat_template, **names, **how)
        return str(rendered if isinstance(rendered, str) else rendered[0][0])

    def _called(self, token: int | None) -> str | None:
        return None if token is None else self.convert_ids_to_tokens(token)


def require_same_tokens(target: GgufTokenizer, draft: GgufTokenizer, where: str) -> None:
    """Raise InputError unless a token is the same to both models. One may have more: vocabularies are padded."""
    for token, (ours, theirs) in enumerate(zip(target.tokens(), draft.tokens(), strict=False)):
        if ours != theirs:
            raise InputError(
                f"{where}: the draft's vocabulary differs from the target's: token {token} is {_shown(*theirs)} and "
                f"{_shown(*ours)}; use a draft with the target's tokenizer."
            )


def _shown(name: str, special: bool) -> str:
    return f"the special token {name!r}" if special else repr(name)


def _there_is(token: int) -> int | None:
    return None if token == NONE else int(token)


def _filled(written: Callable[[Any, int], int], kind: Any, room: int) -> Any:
    """What `written(into, room)` writes; if it does not fit, it says how much there is as a negative number."""
    for _ in range(2):
        into = (kind * max(room, 1))()
        count = written(into, room)
        if count >= 0:
            return into[:count]
        room = -count
    raise ValueError("llama.cpp says another length than it writes")
