"""A batch as llama.cpp reads it: tokens of several sequences, each with its place."""

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple


class Span(NamedTuple):
    """The next tokens of one sequence."""

    row: int
    begin: int
    """How many tokens of the sequence come before these."""
    tokens: Sequence[int]
    scored: int
    """How many of the last ones are to be scored."""

    @property
    def unscored(self) -> "Span":
        """Those before them."""
        return Span(self.row, self.begin, self.tokens[: len(self.tokens) - self.scored], 0)

    @property
    def last(self) -> "Span":
        """Those that are to be scored."""
        before = len(self.tokens) - self.scored
        return Span(self.row, self.begin + before, self.tokens[before:], self.scored)


class Batch:
    """Memory for batches of at most `most` tokens; `struct` is llama.h's type of a batch.

    It is made once, since to make it takes longer than a small model takes for a token.
    """

    def __init__(self, struct: Any, most: int) -> None:
        numbers: Any = ctypes.c_int32 * most
        flags: Any = ctypes.c_int8 * most
        self._token, self._place, self._row, self._one = (numbers() for _ in range(4))
        self._scored = flags()
        first, size = ctypes.addressof(self._row), ctypes.sizeof(ctypes.c_int32)
        rows = (ctypes.c_void_p * most)(*range(first, first + size * most, size))
        self._one[:] = [1] * most
        self._struct = struct(
            token=self._token,
            pos=self._place,
            n_seq_id=self._one,
            seq_id=ctypes.cast(rows, ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
            logits=self._scored,
        )

    def of(self, spans: Sequence[Span]) -> Any:
        """The struct with these `spans`, valid until the next."""
        end = 0
        for row, begin, tokens, scored in spans:
            count = len(tokens)
            here, end = slice(end, end + count), end + count
            self._token[here] = tokens
            self._place[here] = range(begin, begin + count)
            self._row[here] = [row] * count
            self._scored[here] = [0] * (count - scored) + [1] * scored
        self._struct.n_tokens = end
        return self._struct
