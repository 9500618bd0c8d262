"""A recording on the command line: how far it is and when it will be done, then what there is."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias

from rich.progress import MofNCompleteColumn, TextColumn

from stopkit.cli.app import echo
from stopkit.cli.progress import progress_bar
from stopkit.tables import console
from stopkit.trace.files import recorded_tokens
from stopkit.trace.recorder import Rollouts

LINE_SECONDS = 60.0
"""Where there is no terminal, a line at most this often."""

Begin: TypeAlias = Callable[[int], None]
Tick: TypeAlias = Callable[[Rollouts], None]


class Pace:
    """Counts what has been recorded since the beginning."""

    def __init__(self, left: int) -> None:
        self.left, self.sequences, self.tokens = left, 0, 0
        self._began = self._ended = time.monotonic()

    def count(self, rollouts: Rollouts) -> None:
        """Count one more sequence."""
        self.sequences += 1
        self.tokens += len(rollouts.output)
        self._ended = time.monotonic()

    @property
    def tokens_per_second(self) -> float:
        """Recorded tokens a second, up to the last sequence."""
        return self.tokens / max(self._ended - self._began, 1e-9)

    def __str__(self) -> str:
        if not self.sequences:
            return "recording"
        seconds = (self._ended - self._began) / self.sequences * (self.left - self.sequences)
        return f"{self.tokens_per_second:.0f} tokens/s, {timedelta(seconds=round(seconds))} left"


@contextmanager
def watch(out: Path) -> Iterator[tuple[Begin, Tick]]:
    """What to call when a recording begins and after each of its sequences; says at the end what `out` holds."""
    silent = not console(stderr=True).is_terminal
    pace: Pace | None = None
    said = time.monotonic()
    try:
        with progress_bar("loading", None, MofNCompleteColumn(), TextColumn("sequences")) as update:

            def begin(left: int) -> None:
                nonlocal pace
                pace = Pace(left)
                update(total=left, description=str(pace))

            def tick(rollouts: Rollouts) -> None:
                nonlocal said
                assert pace is not None
                pace.count(rollouts)
                update(advance=1, description=str(pace))
                if silent and time.monotonic() - said > LINE_SECONDS:
                    said = time.monotonic()
                    echo(f"{pace.sequences} of {pace.left} sequences, {pace}", err=True)

            yield begin, tick
    finally:
        if pace is not None:
            _conclude(out, pace)


def _conclude(out: Path, pace: Pace) -> None:
    if not out.is_file():
        return
    tokens, size = recorded_tokens(out), out.stat().st_size
    speed = f"; {pace.tokens_per_second:.1f} tokens recorded per second" if pace.sequences else ""
    echo(f"{out}: {tokens} tokens, {size / tokens:.0f} bytes per token{speed}.")
    if pace.sequences < pace.left:
        echo(f"Sequences that are missing: {pace.left - pace.sequences}; --resume records them.", err=True)
