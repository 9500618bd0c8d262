"""Models in GGUF files: what transformers reads of them, once its helpers are there. Weights become plain tensors."""

from importlib.util import find_spec
from pathlib import Path

from stopkit.errors import InputError

SUFFIX = ".gguf"
HELPERS = ("gguf", "accelerate")
"""The packages without which transformers reads none."""


def located(file: Path, where: str) -> str:
    """The place of a GGUF file. Raises InputError if it is none, or cannot be read for want of a package."""
    try:
        with file.open("rb") as content:
            magic = content.read(4)
    except OSError as error:
        raise InputError(f"{where}: {file}: cannot be read: {error.strerror}.") from None
    if magic != b"GGUF":
        raise InputError(f"{where}: {file}: is no GGUF file, it is damaged or something else.")
    if missing := [name for name in HELPERS if find_spec(name) is None]:
        raise InputError(
            f"{where}: {file}: to read a GGUF file takes packages that are not installed, {' and '.join(missing)}: "
            "pip install 'stopkit[gguf]'."
        )
    return str(file)


def arguments(place: str) -> tuple[str, dict[str, str]]:
    """What transformers' `from_pretrained` is to be given for a place: a folder or hub id, and a file in it."""
    if not place.endswith(SUFFIX):
        return place, {}
    return str(Path(place).parent), {"gguf_file": Path(place).name}
