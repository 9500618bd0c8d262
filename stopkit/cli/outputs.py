"""Files that commands write: tried before the work, never over a file of somebody else's, never lost in the end."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from stopkit.errors import InputError, StopkitError

Function = TypeVar("Function", bound=Callable[..., Any])
FORCED = "stopkit.force"
SIGNS = {
    "results": (b'{\n  "conditions"',),
    "state": (b'"stopkit state ',),
    "config": (b"# Tuned by `stopkit tune`",),
    "page": (b"<meta name='generator' content='stopkit'>",),
    "head": (b'"stopkit acceptance head"',),
}
"""What the beginning of a file that a command wrote holds, by what it holds."""
BEGINNING = 4096


class WrittenElsewhere(StopkitError):
    """Outputs could not be written where they were wanted. The message says where they are."""


def output_option(*names: str, holds: str, **attributes: Any) -> Callable[[Function], Function]:
    """An option that names a file to write, which `holds` one of `SIGNS`; `-` is standard output."""

    def judge(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        if value is not None and str(value) != "-":
            require_place(Path(value), holds, bool(context.meta.get(FORCED)), context, parameter)
        return value

    return click.option(*names, callback=judge, **attributes)


def _forced(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    context.meta[FORCED] = value


force_option: Callable[[Function], Function] = click.option(
    "--force",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_forced,
    help="Write over files that this command did not write.",
)


def require_place(
    path: Path, holds: str, forced: bool, context: click.Context | None = None, parameter: click.Parameter | None = None
) -> None:
    """Raise click's BadParameter unless `path` can be written, and is new or a file of this kind."""
    folder = path.absolute().parent
    fault = None
    if not folder.is_dir():
        fault = "its folder does not exist."
    elif path.is_dir():
        fault = "is a folder; name a file."
    elif not os.access(path if path.exists() else folder, os.W_OK):
        fault = "cannot be written to."
    elif path.is_file() and path.stat().st_size and not forced and not _is_ours(path, holds):
        fault = "is there already, and not by this command; name another file, or add --force."
    if fault:
        raise click.BadParameter(f"{path}: {fault}", context, parameter)


def _is_ours(path: Path, holds: str) -> bool:
    with path.open("rb") as file:
        beginning = file.read(BEGINNING)
    return all(sign.lower() in beginning.lower() for sign in SIGNS[holds])


def save(*outputs: tuple[str | Path | None, Callable[[str], object]]) -> None:
    """Write each output to its place, None for none; one that cannot be written goes to a temporary folder.

    Raises WrittenElsewhere in the end, which says where each of those is.
    """
    lost = []
    for place, write in outputs:
        try:
            if place is not None:
                write(str(place))
        except (OSError, InputError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            lost.append(f"{place}: cannot be written ({reason}); {_elsewhere(Path(str(place)).name, write)}")
    if lost:
        raise WrittenElsewhere("\n".join(lost))


def _elsewhere(name: str, write: Callable[[str], object]) -> str:
    try:
        place = Path(tempfile.mkdtemp(prefix="stopkit-")) / name
        write(str(place))
    except (OSError, InputError) as error:
        return f"nor can it be written anywhere else ({error})."
    return f"it is in {place} instead."
