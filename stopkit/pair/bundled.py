"""Where the pair that comes with stopkit lies."""

from pathlib import Path

from stopkit.errors import InputError

FOLDER = Path(__file__).parent / "bundled_pair"
NAMES = ("target", "draft")


def model_path(name: str, where: str = "engine") -> Path:
    """The folder of `bundled:NAME`."""
    if name not in NAMES:
        raise InputError(f"{where}: bundled:{name}: there is bundled:target and bundled:draft.")
    return FOLDER / name
