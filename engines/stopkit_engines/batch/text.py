"""Token ids to text as they come: what can no longer change, cut before a stop string."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from stopkit.errors import GenerationError, InputError, one_line

UNFINISHED = "\ufffd"
"""What decoding gives for the first bytes of a character whose last ones are still to come."""
BYTE = re.compile("<0x[0-9A-F]{2}>")
"""A token that is one byte. Some decoders take a run of them for text only if all of it is valid."""
RESPACED = 3
"""Words at the end that a tokenizer which cleans up spaces may still join: "do", "not" to "don't"."""


class TextStream:
    """The text of one continuation: always what the tokenizer decodes of all its tokens, special ones left out.

    `tokenizer` may be None: there is no text then. A stop string that is a special token ends the text at that token.
    Raises InputError for a stop string with a special token among other text, which no text can hold.
    """

    def __init__(self, tokenizer: Any | None, stop: Sequence[str] = ()) -> None:
        special = special_tokens(tokenizer) if stop else {}
        self._tokenizer = tokenizer
        self._ends = frozenset(special[text] for text in stop if text in special)
        self._stop = [text for text in stop if text not in special]
        for text in self._stop:
            if within := next((name for name in special if name in text), None):
                raise InputError(
                    f"generate.stop: {text!r} holds the special token {within!r}, which is no part of the text; "
                    f"give {within!r} by itself."
                )
        self._hold = max(map(len, self._stop), default=1) - 1
        self._respaces = respaces(tokenizer)
        self._tokens: list[int] = []
        self._context, self._read = 0, 0  # _settled is the text before _read; decoding starts at _context, for spacing
        self._settled = ""
        self._taken = 0
        self._text = ""
        self._unread = False
        self.stopped = False

    def push(self, tokens: Sequence[int]) -> int:
        """Add tokens; how many were kept: all of them, or up to the one that completed a stop string."""
        if not (self._stop or self._ends):  # they are read when somebody asks for the text
            self._tokens.extend(tokens)
            self._unread = True
            return len(tokens)
        for count, token in enumerate(tokens, 1):
            self._tokens.append(token)
            self._read_on()
            self.stopped |= token in self._ends
            if self.stopped:
                return count
        return len(tokens)

    @property
    def text(self) -> str:
        """The text so far. Raises GenerationError where the tokenizer cannot decode it."""
        if self._unread:
            self._read_on()
        return self._text

    def readable(self) -> str:
        """The text so far, or the longest beginning of it that the tokenizer can decode."""
        with suppress(GenerationError):
            return self.text
        for count in range(len(self._tokens) - 1, 0, -1):
            with suppress(GenerationError):
                return self._decode(self._tokens[:count])
        return ""

    def take(self, last: bool = False) -> str:
        """Text that has become certain since the last call; at the last call, all that is left."""
        if last and not self.stopped:
            self._text, self._unread = self._decode(self._tokens), False
        text = self.text
        start, self._taken = self._taken, len(text) if last else max(self._taken, self._certain())
        return text[start : self._taken]

    def _read_on(self) -> None:
        known = self._decode(self._tokens[self._context : self._read])
        ahead = self._decode(self._tokens[self._context :])[len(known) :]
        self._text = self._settled + ahead
        whole = len(self._text.rstrip(UNFINISHED))
        places = [at for at in (self._text.find(stop, self._taken, whole) for stop in self._stop) if at >= 0]
        if places:
            self._text, self.stopped = self._text[: min(places)], True
        elif ahead and whole == len(self._text) and not self._respaces and not self._in_bytes():
            self._settled = self._text
            self._context, self._read = self._read, len(self._tokens)
        self._unread = False

    def _certain(self) -> int:
        """How much of the text is final, whatever follows."""
        if not self._respaces:
            return len(self._settled) - self._hold
        certain = len(self._text.rstrip(UNFINISHED)) - self._hold
        for _ in range(RESPACED):
            certain = max(0, self._text.rfind(" ", 0, max(0, certain)))
        return certain

    def _in_bytes(self) -> bool:
        """Whether the last token is a byte in a run that may go on."""
        names = getattr(self._tokenizer, "convert_ids_to_tokens", None)
        return names is not None and BYTE.fullmatch(str(names(self._tokens[-1]))) is not None

    def _decode(self, tokens: list[int]) -> str:
        if not (self._tokenizer and tokens):
            return ""
        try:
            return str(self._tokenizer.decode(tokens, skip_special_tokens=True))
        except Exception as error:  # tokenizers raise errors of any kind over what they do not know
            reason = one_line(error) or type(error).__name__
            raise GenerationError(
                f"the tokenizer cannot decode token {tokens[-1]} where it stands: {reason}."
            ) from error


def special_tokens(tokenizer: Any) -> Mapping[str, int]:
    """The tokens that decoding leaves out, with their ids."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    special = {token.content: index for index, token in added.items() if token.special}
    named = {token: tokenizer.convert_tokens_to_ids(token) for token in getattr(tokenizer, "all_special_tokens", ())}
    return special | named


def respaces(tokenizer: Any) -> bool:
    """Whether decoding joins words that come apart in tokens, so that more tokens can change the text before them."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None and re.search(rb'"type":\s*"(WordPiece|CTC)"', _state(backend.decoder)):
        return True
    cleans_up = bool(getattr(tokenizer, "clean_up_tokenization_spaces", False))
    return cleans_up and type(getattr(backend, "model", None)).__name__ != "BPE"  # transformers leaves BPE as it is


def _state(decoder: Any) -> bytes:
    return bytes(decoder.__getstate__()) if decoder is not None else b""
