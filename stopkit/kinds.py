"""`Kind`: the common ground of policies and engines, which a config names by their kind."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

DISTRIBUTIONS: dict[type, str] = {}
"""Name and version of the distribution that offers a class. The plug-in loader fills it in."""

FILES: dict[str, str] = {}
"""The Python files that policies of this process came from, each with the SHA-256 of what was run."""


class Kind(BaseModel):
    """What a config names by its kind. Its fields are its parameters; it cannot be changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    section: ClassVar[str]
    """The section of a config that it can fill: "policy" or "engine"."""
    kind: ClassVar[str]
    """Its name in config files and on the command line."""


def as_block(configured: Kind) -> dict[str, Any]:
    """The table that makes the same policy or engine, ready for JSON."""
    return {"kind": configured.kind, **configured.model_dump(mode="json")}


def without_unset(tree: Any) -> Any:
    """`tree` without what is None, which TOML cannot say."""
    if isinstance(tree, Mapping):
        return {str(name): without_unset(value) for name, value in tree.items() if value is not None}
    return [without_unset(value) for value in tree] if isinstance(tree, list) else tree


def distribution_of(cls: type) -> str:
    """The distribution that a policy or engine class comes from, or its module if no plug-in offers it."""
    return DISTRIBUTIONS.get(cls, f"module {cls.__module__}")
