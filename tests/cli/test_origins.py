"""Tokens with their origin: cut where tokens end, readable with and without colour."""

import io

import pytest
from rich.console import Console

from stopkit.generation import Origin, Piece
from stopkit.origins import MEANINGS, OriginStream, legend, paint

A, R, B = Origin.ACCEPTED, Origin.RESIDUAL, Origin.BONUS
WORDS = {1: "def", 2: " add", 3: "", 4: "é", 5: "\n"}


def token_texts(tokens: object) -> list[str]:
    return [WORDS[token] for token in tokens]  # type: ignore[attr-defined]


def test_text_is_cut_where_tokens_end() -> None:
    stream = OriginStream(token_texts)
    assert list(stream.push(Piece(0, [1, 2], [A, R], "def add", None))) == [("def", A), (" add", R)]
    assert list(stream.push(Piece(0, [3, 4], [A, B], "é", None))) == [("é", B)]


def test_text_that_is_held_back_keeps_its_origin() -> None:
    stream = OriginStream(token_texts)
    assert list(stream.push(Piece(0, [1, 2], [A, R], "def a", None))) == [("def", A), (" a", R)]
    assert list(stream.push(Piece(0, [1], [B], "dddef", "length"))) == [("dd", R), ("def", B)]


def test_an_engine_that_knows_no_tokens_still_shows_its_text() -> None:
    stream = OriginStream(lambda tokens: [""] * len(tokens))
    assert list(stream.push(Piece(0, [1, 2], [A, R], "def add", None))) == [("def add", None)]


def written(**console: object) -> str:
    file = io.StringIO()
    paint([("def", A), (" add", R), ("é\n", B)], Console(file=file, **console))  # type: ignore[arg-type]
    return file.getvalue()


def test_in_a_file_there_are_brackets() -> None:
    assert written() == "def⟦ add⟧‹é›\n"


def test_on_a_terminal_there_are_colours() -> None:
    text = written(force_terminal=True, color_system="standard")
    assert "\x1b[32mdef\x1b[0m" in text
    assert "⟦" not in text


def test_without_colour_styles_tell_them_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    text = written(force_terminal=True, color_system="standard")
    assert text.startswith("def\x1b[1;4m add\x1b[0m\x1b[4mé\x1b[0m")


def test_the_legend_names_every_origin() -> None:
    file = io.StringIO()
    legend(Console(file=file))
    assert set(MEANINGS) == set(Origin)
    assert all(meaning in file.getvalue() for meaning in MEANINGS.values())
