"""Files that are replaced whole, or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stopkit.errors import InputError

UNFINISHED = ".stopkit-"
"""How the names of folders begin that hold what is still being written; a process that is killed may leave one."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Where to write what is to be at `path`: a place of its own, from which it is moved there in the end.

    A link is followed, and stays. If anything is raised, what was at `path` is as it was, and nothing is left behind.
    Raises InputError if something is there that is no file, and OSError if the folder cannot be written to.
    """
    place = Path(os.path.realpath(path))
    if place.exists() and not place.is_file():
        raise InputError(f"{path}: cannot be written: what is there is no file.")
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=place.parent) as folder:
        unfinished = Path(folder) / place.name
        yield unfinished
        unfinished.replace(place)
