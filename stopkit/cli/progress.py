"""A progress bar for work that takes a while."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn

from stopkit.tables import console


@contextmanager
def progress_bar(description: str, total: float | None, *columns: ProgressColumn) -> Iterator[Callable[..., Any]]:
    """A bar on standard error, with `columns` beside it, gone when the work is done; nothing if that is no terminal.

    What it gives is to be called with what has changed: `advance=`, `completed=`, `total=` or `description=`.
    """
    screen = console(stderr=True)
    shown = (TextColumn("{task.description}"), BarColumn(), *columns)
    with Progress(*shown, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        yield partial(progress.update, progress.add_task(description, total=total))
