"""Completions on standard output, one after another, each as it grows."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from stopkit.generation import Continuation, Piece
from stopkit.origins import OriginStream, legend, paint
from stopkit.prompts import WrittenPrompt
from stopkit.tables import console

TokenTexts: TypeAlias = Callable[[Sequence[int]], list[str]]
TITLE_WIDTH = 60


class Screen:
    """Shows the completions of `prompts` in order; with `token_texts`, where every token came from."""

    def __init__(self, prompts: Sequence[WrittenPrompt], token_texts: TokenTexts | None, silent: bool = False) -> None:
        self._console = console()
        self._silent = silent
        self._titles = [f"{prompt.where}: {_first_line(prompt.text)}" for prompt in prompts] if len(prompts) > 1 else []
        self._token_texts = token_texts
        self._begin()

    def _begin(self) -> None:
        self._origins = OriginStream(self._token_texts or (lambda tokens: [""] * len(tokens)))
        self._tokens = self._characters = 0
        self._open = False

    def open(self, title: str, prompt: str) -> None:
        """Show a title and the prompt that the next completion continues."""
        self._console.out(f"\n── {title}", style="dim", highlight=False)
        self._console.out(prompt, style="dim", end="", highlight=False)

    def write(self, piece: Piece) -> None:
        """Show what was added to the current completion."""
        if self._silent:
            return
        if not self._open and self._titles:
            self._console.out(f"── {self._titles.pop(0)}", style="dim", highlight=False)
        self._open = True
        paint(self._origins.push(piece), self._console)
        self._tokens += len(piece.tokens)
        self._characters += len(piece.text)

    def close(self, done: Continuation) -> None:
        """Show what is left of the current completion; the next one follows."""
        rest = slice(self._tokens, None)
        text = done.text[self._characters :]
        self.write(Piece(0, done.tokens[rest], done.origins[rest], text, done.finish_reason))
        if not self._silent:
            self._console.out("")
        self._begin()

    def end(self) -> None:
        """Say what the looks of tokens mean, if they have any."""
        if self._token_texts and not self._silent:
            self._console.out("")
            legend(self._console)


def _first_line(text: str) -> str:
    line = text.strip().splitlines()[0] if text.strip() else repr(text)
    return line if len(line) <= TITLE_WIDTH else line[:TITLE_WIDTH] + "…"
