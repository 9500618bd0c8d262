"""Tokens shown with where they came from: by colour, and by style or brackets where there is no colour."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from rich.console import Console

from stopkit.generation import Origin, Piece

CONTEXT = 16
"""Earlier tokens that are decoded again, so that spaces and characters cut by a token's edge come out right."""


class Look(NamedTuple):
    """How tokens of one origin appear: a rich style on a terminal, brackets elsewhere."""

    style: str
    left: str
    right: str


PLAIN = Look("", "", "")
LOOKS = {
    Origin.ACCEPTED: Look("green", "", ""),
    Origin.RESIDUAL: Look("bold underline red", "⟦", "⟧"),
    Origin.BONUS: Look("underline yellow", "‹", "›"),
}
MEANINGS = {
    Origin.ACCEPTED: "accepted (the draft's)",
    Origin.RESIDUAL: "residual (the target's own, after a rejection)",
    Origin.BONUS: "bonus (the target's own, after a full block)",
}


class OriginStream:
    """Text of one sequence as it becomes certain, cut into tokens. `token_texts` is that of the engine."""

    def __init__(self, token_texts: Callable[[Sequence[int]], list[str]]) -> None:
        self._token_texts = token_texts
        self._tokens: list[int] = []
        self._waiting: list[tuple[str, Origin]] = []

    def push(self, piece: Piece) -> Iterator[tuple[str, Origin | None]]:
        """Parts of `piece.text` with their origin; None where the engine cannot tell tokens apart."""
        known = self._tokens[-CONTEXT:]
        texts = self._token_texts([*known, *piece.tokens])[len(known) :]
        self._tokens.extend(piece.tokens)
        self._waiting.extend(zip(texts, piece.origins, strict=True))
        left = piece.text
        while left and self._waiting:
            text, origin = self._waiting.pop(0)
            if len(text) > len(left):
                self._waiting.insert(0, (text[len(left) :], origin))
            shown, left = left[: len(text)], left[len(text) :]
            if shown:
                yield shown, origin
        if left:
            yield left, None


def paint(parts: Iterable[tuple[str, Origin | None]], console: Console) -> None:
    """Write `parts` as they look on `console`, adding no line's end.

    A terminal is spared control characters; a file gets every character.
    """
    for part, origin in parts:
        look = LOOKS[origin] if origin else PLAIN
        if console.is_terminal:
            console.out(part, style=look.style, end="", highlight=False)
        else:
            body = part.rstrip()  # a bracket that closes after a line's end would begin the next line
            console.file.write(f"{look.left}{body}{look.right}{part[len(body) :]}")
    console.file.flush()


def legend(console: Console) -> None:
    """Write a line that says what the looks mean."""
    for origin, meaning in MEANINGS.items():
        paint([(meaning, origin), ("   ", None)], console)
    console.out("")
