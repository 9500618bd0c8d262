"""Files to objects. A config names registered kinds and data paths; it can never import code."""

import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from stopkit.engine import Engine, GenerationOptions
from stopkit.errors import InputError
from stopkit.plugins import registry
from stopkit.policy import StoppingPolicy
from stopkit.validation import did_you_mean, validated

SECTIONS = ("policy", "engine", "generation")
DEFAULT_POLICY = "goodput"
DEFAULT_ENGINE = {"kind": "eager"}
ALIASES = {"autoregressive": {"kind": "static", "length": 0}}
"""Names for a policy with its parameters set."""


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
    if unknown := tree.keys() - set(SECTIONS):
        name = sorted(unknown)[0]
        raise InputError(f"{_at(where, name)}: unknown section.{did_you_mean(name, SECTIONS)}")
    over = overrides or {}
    policy = load_policy(tree.get("policy", DEFAULT_POLICY), _at(where, "policy"))
    engine = {**DEFAULT_ENGINE, **_table(tree.get("engine", {}), _at(where, "engine"))}
    load_engine(engine, _at(where, "engine"))
    generation = _table(tree.get("generation", {}), _at(where, "generation"))
    validated(GenerationOptions, generation, _at(where, "generation"))
    return Config(
        policy=load_policy(over.get("policy", policy)),
        engine=load_engine({**engine, **over.get("engine", {})}),
        generation=validated(GenerationOptions, {**generation, **over.get("generation", {})}, "generation"),
    )


def as_block(made: StoppingPolicy | Engine) -> dict[str, Any]:
    """The table that makes the same policy or engine, ready for JSON."""
    return {"kind": made.kind, **made.model_dump(mode="json")}


def load_policy(spec: Any, where: str = "policy") -> StoppingPolicy:
    """A policy from its kind, `KIND:field=value,field=value`, a config file's path, a dict with `kind`, or itself."""
    if isinstance(spec, StoppingPolicy):
        return spec
    if isinstance(spec, str):
        if Path(spec).suffix in READERS:
            return load_policy(_policy_block(Path(spec)), f"{spec}: policy")
        spec = parse_spec(spec, where)
    kind, fields = _kind(_table(spec, where), where)
    if alias := ALIASES.get(kind):
        if fields:
            raise InputError(f"{where}.{min(fields)}: {kind} has no fields; it is {alias['kind']} with them set.")
        kind, fields = _kind(alias, where)
    return validated(registry().policy(kind, where), fields, where)


def load_engine(spec: Any, where: str = "engine") -> Engine:
    """An engine from its kind, a dict with `kind`, or itself. Models are loaded on first use."""
    if isinstance(spec, Engine):
        return spec
    kind, fields = _kind({"kind": spec} if isinstance(spec, str) else _table(spec, where), where)
    return validated(registry().engine(kind, where), fields, where)


def parse_spec(text: str, where: str = "policy") -> dict[str, Any]:
    """`KIND:field=value,field=value` as a dict; values are TOML, and text that is not TOML is a string.

    Lists of kinds need no quotes: `first_of:policies=[adaedl,svip]`. A dot reaches into a nested table:
    `adaedl:controller.alpha=0.8`.
    """
    kind, _, rest = text.partition(":")
    spec: dict[str, Any] = {"kind": kind.strip()}
    for item in filter(None, _split(rest)):
        name, equals, value = item.partition("=")
        if not equals:
            raise InputError(f"{where}: {item!r} in {text!r} has no value; write KIND:field=value,field=value.")
        *tables, last = name.strip().split(".")
        block = spec
        for table in tables:
            block = block.setdefault(table, {})
            if not isinstance(block, dict):
                hint = f"write {table}.kind={block}"
                raise InputError(f"{where}: {item!r} in {text!r} reaches into a value; {hint}.")
        block[last] = _value(value.strip())
    return spec


def read_tree(path: Path) -> dict[str, Any]:
    """The table in a config file, read by its suffix."""
    if path.suffix not in READERS:
        raise InputError(f"{path}: a config ends in {', '.join(READERS)}.")
    try:
        tree = READERS[path.suffix](path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8 text; save it as UTF-8.") from None
    except ValueError as error:
        raise InputError(f"{path}: is not valid {path.suffix[1:].upper()}: {' '.join(str(error).split())}.") from None
    return dict(_table(tree, str(path)))


def _read_yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


READERS: dict[str, Callable[[str], Any]] = {
    ".toml": tomllib.loads,
    ".json": json.loads,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
}


def _policy_block(path: Path) -> Any:
    tree = read_tree(path)
    if "policy" not in tree:
        raise InputError(f"{path}: has no policy section; add one with a kind.")
    return tree["policy"]


def _table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: must be a table of fields; got {value!r}.")
    return value


def _kind(spec: Mapping[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    fields = dict(spec)
    kind = fields.pop("kind", None)
    if not isinstance(kind, str):
        raise InputError(f"{where}.kind: must name a registered kind; got {kind!r}.")
    return kind, fields


def _split(text: str) -> list[str]:
    """The parts of `text` between commas that are not inside brackets or quotes."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote or character in "'\"":
            quote = "" if character == quote else quote or character
        else:
            depth += (character in "[{") - (character in "]}")
        if character == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        if text.startswith("[") and text.endswith("]"):
            return [_value(item.strip()) for item in _split(text[1:-1])]
        return text


def _at(where: str, section: str) -> str:
    return f"{where}: {section}" if where else section
