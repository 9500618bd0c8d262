"""What an installation may lack, as only a part of stopkit needs it, and the extras that bring it."""

from importlib import import_module
from typing import Any

from stopkit.errors import InputError

EXTRAS = {
    "click": "cli",
    "rich": "cli",
    "tomli_w": "cli",
    "yaml": "cli",
    "tokenizers": "hf",
    "transformers": "hf",
    "hypothesis": "testing",
    "numpy": "trace",
    "pyarrow": "trace",
    "optuna": "tune",
}
"""For each module, the extra of the distribution; `stopkit[all]` has them all."""


def extra_for(error: BaseException) -> str | None:
    """What to install, if `error` says that a module of an extra is missing; None if it says anything else."""
    name = str(error.name).partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    return f"needs {name}, which is not installed: pip install 'stopkit[{EXTRAS[name]}]'" if name in EXTRAS else None


def needed(name: str, what: str) -> Any:
    """The module `name`. Raises InputError, which says what to install, if `what` cannot do without it."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(f"{what}: {extra_for(error) or error}.") from None
