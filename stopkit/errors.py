"""The errors a user can meet. Each message says what was wrong, where, and what would be right."""

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
    """`text` in one line of at most `most` characters: spaces and line breaks are one space, the end may be cut."""
    line = " ".join(str(text).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
