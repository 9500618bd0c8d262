"""A batch as llama.cpp reads it: tokens of several sequences, each with its place."""

import ctypes
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple


class Span(NamedTuple):
    """The next tokens of one sequence."""

    row: int
    begin: int
    """How many tokens of the sequence come before these."""
    tokens: Sequence[int]
    scored: int
    """How many of the last ones are to be scored."""


def batch_of(spans: Sequence[Span], batch: Any) -> Any:
    """The `spans` as a struct of the type `batch`, which keeps alive what it points to."""
    lengths = [len(span.tokens) for span in spans]
    rows = _array(ctypes.c_int32, chain(*([span.row] * length for span, length in zip(spans, lengths, strict=True))))
    first, size = ctypes.addressof(rows), ctypes.sizeof(ctypes.c_int32)
    places = _array(ctypes.c_void_p, range(first, first + size * len(rows), size))
    made = batch(
        n_tokens=len(rows),
        token=_array(ctypes.c_int32, chain(*(span.tokens for span in spans))),
        pos=_array(ctypes.c_int32, chain(*(range(span.begin, span.begin + len(span.tokens)) for span in spans))),
        n_seq_id=_array(ctypes.c_int32, [1] * len(rows)),
        seq_id=ctypes.cast(places, ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
        logits=_array(ctypes.c_int8, chain(*(_scored(span) for span in spans))),
    )
    made.rows = rows  # reached by address alone
    return made


def _scored(span: Span) -> Iterable[int]:
    return (int(at >= len(span.tokens) - span.scored) for at in range(len(span.tokens)))


def _array(kind: Any, values: Iterable[Any]) -> Any:
    given = list(values)
    return (kind * len(given))(*given)
