"""A line of the summary, and the conditions that every step is given."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from rich.console import Console

from stopkit.tables import table, text


class Line(NamedTuple):
    """What was to be shown, and whether it was."""

    what: str
    target: str
    measured: str
    met: bool | None
    """None where there is nothing to meet, or it could not be measured."""
    value: float | None = None

    def shown(self) -> dict[str, str]:
        """The columns of the summary."""
        verdict = {True: "met", False: "NOT MET", None: "–"}[self.met]
        return {"what": self.what, "target": self.target, "measured": self.measured, "verdict": verdict}


@dataclass(frozen=True)
class Setting:
    """Where and how large everything is."""

    small: bool
    seconds: float
    """For all steps together."""
    began: float = field(default_factory=time.monotonic)

    @property
    def cuda(self) -> bool:
        """Whether there is a CUDA device to measure."""
        return torch.cuda.is_available()

    @property
    def device(self) -> str:
        """Its name for torch."""
        return "cuda" if self.cuda else "cpu"

    @property
    def tokens(self) -> int:
        """Tokens of a generation that is timed."""
        return 6 if self.small else 48

    @property
    def left(self) -> float:
        """Seconds left."""
        return self.seconds - (time.monotonic() - self.began)


Step = Callable[[Setting], Iterator[Line]]


def without_cuda(what: str, target: str) -> Line:
    """The line of what only a GPU can show."""
    return Line(what, target, "no CUDA device", None)


def at_most(what: str, limit: float, value: float, form: str = "{:.3f} ×", more: str = "") -> Line:
    """A line that is met up to a limit."""
    return Line(what, f"≤ {form.format(limit)}", form.format(value) + more, value <= limit, value)


def show(lines: list[Line]) -> None:
    """The summary."""
    columns = [text(name, name) for name in ("what", "target", "measured", "verdict")]
    Console(width=120).print(table([line.shown() for line in lines], columns))
