"""`Vocabulary`: what the tokens of a tokenizer stand for, whatever its convention of writing them."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stopkit.errors import InputError

Piece = bytes | str
"""What a token stands for: bytes of a text, or the special token of that name."""

SPACE = "▁"
"""What tokens of the SentencePiece convention have for a space."""
BYTE = re.compile("<0x([0-9A-F]{2})>")
"""One byte, by the same convention."""


class Vocabulary:
    """The tokens of `tokenizer`. Raises InputError, which names `where`, if their convention is not known."""

    def __init__(self, tokenizer: Any, where: str) -> None:
        self._tokenizer = tokenizer
        read = _convention(tokenizer, where)
        added = getattr(tokenizer, "added_tokens_decoder", {})
        special = {index for index, token in added.items() if token.special} | {*tokenizer.all_special_ids}
        names = {index: token for token, index in tokenizer.get_vocab().items()}
        self.pieces: Mapping[int, Piece] = {
            index: name if index in special and not BYTE.fullmatch(name) else read(name, index in added)
            for index, name in names.items()
        }
        """By their ids."""
        by_bytes_first = sorted(names, key=lambda index: BYTE.fullmatch(names[index]) is None)
        self.ids: Mapping[Piece, int] = {self.pieces[index]: index for index in by_bytes_first if self.pieces[index]}
        """The token for a piece; where a byte is a letter, too, that of the letter."""
        self.end: int | None = tokenizer.eos_token_id
        """The token that ends a text."""
        plain, whole = self.encoded("a"), list(tokenizer("a")["input_ids"])
        starts = [at for at in range(len(whole)) if whole[at : at + len(plain)] == plain]
        self.beginning: Sequence[int] = whole[: starts[0]] if starts else []
        """The special tokens that come before a text."""
        self.begins_with_space = self.text(plain) == b" a"
        """Whether a text is given a space that it has not."""

    def encoded(self, text: str) -> list[int]:
        """The tokens of a text, without special ones around it."""
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def text(self, tokens: Sequence[int]) -> bytes:
        """What tokens stand for together, special ones left out."""
        return b"".join(piece for token in tokens if isinstance(piece := self.pieces.get(token), bytes))


def _convention(tokenizer: Any, where: str) -> Callable[[str, bool], bytes]:
    """How tokens are written: a function of a token and whether it was added to those that were learned."""
    decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
    state = "" if decoder is None else bytes(decoder.__getstate__()).decode()
    for sign, convention in CONVENTIONS.items():
        if sign in state:
            return convention
    raise InputError(
        f"{where}: the draft has another tokenizer than the target, and {type(tokenizer).__name__} is neither a "
        "byte-level nor a SentencePiece one, whose tokens could be compared; use a draft with the target's tokenizer."
    )


def _byte_level(token: str, added: bool) -> bytes:
    return token.encode() if added or not ALPHABET.keys() >= {*token} else bytes(ALPHABET[letter] for letter in token)


def _sentencepiece(token: str, added: bool) -> bytes:
    byte = BYTE.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace(SPACE, " ").encode()


CONVENTIONS = {"ByteLevel": _byte_level, SPACE: _sentencepiece, '"Metaspace"': _sentencepiece}
"""By what tells them in the decoder of a tokenizer."""

_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(0x100) if byte not in _PRINTABLE]
ALPHABET = {chr(byte): byte for byte in _PRINTABLE} | {chr(0x100 + at): byte for at, byte in enumerate(_OTHERS)}
"""The bytes for which byte-level tokenizers write a letter each: GPT-2's table."""
