"""What commands write into files, and how it is told from what somebody else wrote."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

BEGINNING = 4096


class Format(NamedTuple):
    """What a file can hold."""

    is_in: Callable[[Path], bool]
    """Whether the file at a path holds it."""
    streams: bool = False
    """Whether it can go to standard output, a pipe or a device, too."""


def _begins(pattern: bytes) -> Callable[[Path], bool]:
    """Whether a file begins so."""

    def begins(path: Path) -> bool:
        with path.open("rb") as file:
            return re.match(pattern, file.read(BEGINNING)) is not None

    return begins


def _declares(form: str) -> Callable[[Path], bool]:
    """Whether a file is safetensors whose metadata has a `format` that begins with `form`."""

    def declares(path: Path) -> bool:
        try:
            with safe_open(path, "numpy") as file:
                return str((file.metadata() or {}).get("format")).startswith(form)
        except SafetensorError:
            return False

    return declares


FORMATS = {
    "results": Format(_begins(rb'\{\n  "conditions": \{\n    "time": "[-:+T\d]+",\n    "hardware": \{'), streams=True),
    "state": Format(_declares("stopkit state ")),
    "config": Format(_begins(rb"# Tuned by `stopkit tune` on \d+ sequences of ")),
    "page": Format(
        _begins(rb"<!doctype html>\n<html[^>]*><head>(<meta [^>]*>)*<meta name='generator' content='stopkit'>")
    ),
    "plot": Format(_begins(rb'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \d+ \d+" ')),
    "head": Format(_declares("stopkit acceptance head")),
    "trace": Format(lambda path: True),  # whether it goes on with what is there, a recording decides itself
}
"""All that commands write, by name."""
