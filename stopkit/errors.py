"""The errors a user can meet. Each message says what was wrong, where, and what would be right."""

import re
import reprlib
import traceback
from typing import Any


class StopkitError(Exception):
    """Something went wrong that a message can explain. Exit code 1 on the command line."""


class InputError(StopkitError):
    """The input was wrong: a config, an option, a prompt, a model. Exit code 2 on the command line."""


class GenerationError(StopkitError):
    """Generation could not go on. `partial` is the `GenerationResult` of everything produced so far."""

    partial: Any = None


class PolicyError(GenerationError):
    """A policy raised or returned no decision. The message names the policy, its distribution and the verb."""


def one_line(text: object, most: int = 160) -> str:
    """`text` in one printable line, cut to `most` characters; spaces and line breaks are one space."""
    line = printable(" ".join(str(text).split()))
    return line if len(line) <= most else f"{line[: most - 1]}…"


def shown(value: object, most: int = 60) -> str:
    """A value as Python writes it, cut to `most` characters, at once even if it is huge."""
    return one_line(_BRIEF.repr(value), most)


def printable(text: str) -> str:
    """`text` with control characters as escapes, except for line breaks and tabs, and without the passwords of URLs."""
    return PASSWORD.sub(r"\1:…@", text.translate(_ESCAPES))


def line_in(error: BaseException, file: str | None) -> int | None:
    """The last line of `file` that was being run when `error` was raised; None if there was none."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno for frame in reversed(frames) if frame.filename == file), None)


PASSWORD = re.compile(r"(\w://[^\s:/@]*):[^\s/@]+@")
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = 80
