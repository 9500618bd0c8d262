"""Files that commands write: tried before the work, never over a file of somebody else's, never lost in the end."""

import os
import tempfile
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

import click

from stopkit.cli.formats import FORMATS
from stopkit.errors import InputError, StopkitError

Function = TypeVar("Function", bound=Callable[..., Any])
FORCED = "stopkit.force"
TAKEN = "stopkit.taken"


class WrittenElsewhere(StopkitError):
    """Outputs could not be written where they were wanted. The message says where they are."""


def output_option(*names: str, holds: str, **attributes: Any) -> Callable[[Function], Function]:
    """An option that names a file to write, which `holds` one of `FORMATS`; `-` is standard output if that streams."""

    def judge(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        if value is not None and not (str(value) == "-" and FORMATS[holds].streams):
            require_place(Path(value), holds, context, parameter)
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


def require_place(path: Path, holds: str, context: click.Context, parameter: click.Parameter) -> None:
    """Raise click's BadParameter unless `path` can be written, is new or of this format, and no other output's."""
    place, form = Path(os.path.realpath(path)), FORMATS[holds]
    taken = context.meta.setdefault(TAKEN, {})
    other = taken.setdefault(_identity(place), parameter.opts[0])
    fault = None
    if str(path) == "-":
        fault = "standard output cannot take it; name a file."
    elif not place.parent.is_dir():
        fault = "its folder does not exist."
    elif place.is_dir():
        fault = "is a folder; name a file."
    elif place.exists() and not place.is_file() and not form.streams:
        fault = "is there and is no file; name a file."
    elif not os.access(place if place.exists() else place.parent, os.W_OK):
        fault = "cannot be written to."
    elif other != parameter.opts[0]:
        fault = f"is where {other} goes; name another file."
    elif place.is_file() and place.stat().st_size and not context.meta.get(FORCED) and not form.is_in(place):
        fault = "is there already, and not by this command; name another file, or add --force."
    if fault:
        raise click.BadParameter(f"{path}: {fault}", context, parameter)


def _identity(place: Path) -> Hashable:
    """What is the same for all names of a file."""
    return (place.stat().st_dev, place.stat().st_ino) if place.exists() else place


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
