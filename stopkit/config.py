"""Files to objects. A config names registered kinds and data paths; it can never import code."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from stopkit.engine import Engine
from stopkit.errors import InputError, one_line
from stopkit.generation import GenerationOptions
from stopkit.kinds import as_block
from stopkit.plugins import registry
from stopkit.policy import StoppingPolicy
from stopkit.spec import kind_of, load_policy, mapping, read_tree
from stopkit.validation import did_you_mean, validated

SECTIONS = ("policy", "engine", "generation")
DEFAULT_POLICY = "goodput"
DEFAULT_ENGINE = {"kind": "eager"}


class Config(BaseModel):
    """A whole config: what to stop with, what to run on, how to generate."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    policy: StoppingPolicy
    engine: Engine
    generation: GenerationOptions = Field(default=GenerationOptions())

    def as_dict(self) -> dict[str, Any]:
        """The tree that `load_config` would read to make the same config, ready for JSON."""
        policy, engine = as_block(self.policy), as_block(self.engine)
        return {"policy": policy, "engine": engine, "generation": self.generation.model_dump(mode="json")}


def load_config(path: str | Path | None = None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read a TOML, JSON or YAML file; sections that it lacks take their defaults.

    `overrides` win: its policy replaces the file's, its engine and generation tables do so field by field. The file is
    judged before they are laid over it, so that an error names the place it is in.
    """
    tree = read_tree(Path(path)) if path is not None else {}
    where = str(path) if path is not None else ""
    _require_sound(tree, where)
    over = overrides or {}
    policy, engine = tree.get("policy", DEFAULT_POLICY), DEFAULT_ENGINE | dict(tree.get("engine", {}))
    generation = tree.get("generation", {})
    return Config(
        policy=load_policy(over.get("policy", policy)),
        engine=load_engine({**engine, **over.get("engine", {})}),
        generation=validated(GenerationOptions, {**generation, **over.get("generation", {})}, "generation"),
    )


def _require_sound(tree: Mapping[str, Any], where: str) -> None:
    """Raise one InputError, with a line for every mistake in any section of a file."""
    judges: dict[str, Callable[[Any, str], Any]] = {
        "policy": load_policy,
        "engine": lambda block, at: load_engine(DEFAULT_ENGINE | dict(mapping(block, at)), at),
        "generation": lambda block, at: validated(GenerationOptions, mapping(block, at), at),
    }
    faults = []
    for name, block in tree.items():
        try:
            if name not in judges or not isinstance(name, str):
                raise InputError(f"{_at(where, one_line(name))}: unknown section.{did_you_mean(str(name), SECTIONS)}")
            judges[name](block, _at(where, name))
        except InputError as error:
            faults.append(str(error))
    if faults:
        raise InputError("\n".join(faults))


def load_engine(spec: Any, where: str = "engine") -> Engine:
    """An engine from its kind, a dict with `kind`, or itself. Models are loaded on first use."""
    if isinstance(spec, Engine):
        return spec
    kind, fields = kind_of({"kind": spec} if isinstance(spec, str) else mapping(spec, where), where)
    engine: Engine = validated(registry().engine(kind, where), fields, where)
    return engine


def _at(where: str, section: str) -> str:
    return f"{where}: {section}" if where else section
