"""Completions on standard output, one after another, each as it grows."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from stopkit.generation import GenerationResult, Piece
from stopkit.origins import OriginStream, legend, paint
from stopkit.prompt_kinds import Prompt, is_chat
from stopkit.prompts import WrittenPrompt
from stopkit.tables import console

TokenTexts: TypeAlias = Callable[[Sequence[int]], list[str]]
TITLE_WIDTH = 60


class Screen:
    """Shows the completions of `prompts` in order; with `token_texts`, where every token came from.

    The first that is not done is shown as it grows; what comes of later ones waits until it is their turn.
    """

    def __init__(self, prompts: Sequence[WrittenPrompt], token_texts: TokenTexts | None, silent: bool = False) -> None:
        self._console = console()
        self._silent = silent
        titles = [f"{written.where}: {_first_line(written.prompt)}" for written in prompts]
        self._titles = titles if len(titles) > 1 else []
        self._token_texts = token_texts
        self._waiting: dict[int, list[Piece]] = {}
        self._current = -1
        self._next()

    def _next(self) -> None:
        self._current += 1
        self._origins = OriginStream(self._token_texts or (lambda tokens: [""] * len(tokens)))
        self._tokens = self._characters = 0

    def open(self, title: str, prompt: str) -> None:
        """Show a title and the prompt that the next completion continues."""
        self._console.out(f"\n── {title}", style="dim", highlight=False)
        self._console.out(prompt, style="dim", end="", highlight=False)

    def write(self, piece: Piece) -> None:
        """Take what a completion has gained."""
        self._waiting.setdefault(piece.sequence, []).append(piece)
        while pieces := self._waiting.pop(self._current, []):
            for waited in pieces:
                self._show(waited)
            if pieces[-1].finish_reason is None:
                return
            self._end_line()

    def close(self, result: GenerationResult) -> None:
        """Show what is left, of completions that were not finished too, and what the looks of tokens mean."""
        for done in result.continuations[self._current :]:
            if done.tokens:
                rest = slice(self._tokens, None)
                text = done.text[self._characters :]
                self._show(Piece(self._current, done.tokens[rest], done.origins[rest], text, done.finish_reason))
                self._end_line()
            else:
                self._next()
        if self._token_texts and not self._silent:
            self._console.out("")
            legend(self._console)

    def _show(self, piece: Piece) -> None:
        if self._silent:
            return
        if not self._tokens and self._titles:
            self._console.out(f"── {self._titles[self._current]}", style="dim", highlight=False)
        paint(self._origins.push(piece), self._console)
        self._tokens += len(piece.tokens)
        self._characters += len(piece.text)

    def _end_line(self) -> None:
        if not self._silent:
            self._console.out("")
        self._next()


def _first_line(prompt: Prompt) -> str:
    """How a prompt is shown: the beginning of its text, of the last chat message, or of the token ids."""
    last = prompt[-1] if is_chat(prompt) else prompt
    text = str(last.get("content") if isinstance(last, Mapping) else last)
    line = text.strip().splitlines()[0] if text.strip() else repr(text)
    return line if len(line) <= TITLE_WIDTH else line[:TITLE_WIDTH] + "…"
