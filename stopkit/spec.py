"""What a user writes for a policy, to the policy: text, a table or a file. None of them can import code."""

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stopkit.errors import InputError, one_line, shown
from stopkit.extras import needed
from stopkit.plugins import registry
from stopkit.policy import StoppingPolicy
from stopkit.validation import validated

ALIASES = {"autoregressive": {"kind": "static", "length": 0}}
"""Names for a policy with its parameters set."""


PYTHON_FILE = re.compile(r"(?P<path>([A-Za-z]:[\\/])?[^:]+\.py)(::(?P<name>[^:]*))?(:(?P<fields>.*))?", re.DOTALL)
"""What names a policy in a Python file, which is for the command line alone."""


def load_policy(spec: Any, where: str = "policy") -> StoppingPolicy:
    """A policy from its kind, `KIND:field=value,field=value`, a config file's path, a dict with `kind`, or itself."""
    if isinstance(spec, StoppingPolicy):
        return spec
    if isinstance(spec, str):
        if Path(spec).suffix in READERS:
            return load_policy(_policy_block(Path(spec)), f"{spec}: policy")
        if PYTHON_FILE.fullmatch(spec):
            raise InputError(
                f"{where}: {shown(spec)} is a Python file, which --policy alone can name: a config cannot import code. "
                "Give its kind once a plug-in offers it; `stopkit new-policy` begins one."
            )
        spec = parse_spec(spec, where)
    kind, fields = kind_of(mapping(spec, where), where)
    if alias := ALIASES.get(kind):
        if fields:
            raise InputError(f"{where}.{min(fields)}: {kind} has no fields; it is {alias['kind']} with them set.")
        kind, fields = kind_of(alias, where)
    policy: StoppingPolicy = validated(registry().policy(kind, where), fields, where)
    return policy


def parse_spec(text: str, where: str = "policy") -> dict[str, Any]:
    """`KIND:field=value,field=value` as a dict; values are TOML, and text that is not TOML is a string.

    Lists of kinds need no quotes: `first_of:policies=[adaedl,svip]`. A dot reaches into a nested table:
    `adaedl:controller.alpha=0.8`.
    """
    kind, _, fields = text.partition(":")
    return {"kind": kind.strip(), **parse_fields(fields, text, where)}


def parse_fields(fields: str, text: str, where: str) -> dict[str, Any]:
    """`field=value,field=value`, which is part of `text`, as a dict."""
    tree: dict[str, Any] = {}
    for item in filter(None, _split(fields)):
        name, equals, value = item.partition("=")
        if not equals:
            raise InputError(f"{where}: {item!r} in {text!r} has no value; write KIND:field=value,field=value.")
        *tables, last = name.strip().split(".")
        block = tree
        for table in tables:
            block = block.setdefault(table, {})
            if not isinstance(block, dict):
                hint = f"write {table}.kind={block}"
                raise InputError(f"{where}: {item!r} in {text!r} reaches into a value; {hint}.")
        block[last] = _value(value.strip())
    return tree


def read_tree(path: Path) -> dict[str, Any]:
    """The table in a config file, read by its suffix."""
    if path.suffix not in READERS:
        raise InputError(f"{path}: a config ends in {', '.join(READERS)}.")
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path}: is larger than {LARGEST:,} bytes, which no config is.")
        tree = READERS[path.suffix](path.read_text(encoding="utf-8"))
        _require_plain(tree, str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8 text; save it as UTF-8.") from None
    except ValueError as error:
        raise InputError(f"{path}: is not valid {path.suffix[1:].upper()}: {one_line(error)}.") from None
    except RecursionError:
        raise InputError(f"{path}: is nested too deeply for a config.") from None
    return dict(mapping(tree, str(path)))


def _require_plain(tree: Any, where: str) -> None:
    """Raise InputError for keys that are no strings, and for aliases that make more than `MOST_VALUES` of the file."""
    values, waiting = 0, [(where, tree)]
    while waiting:
        place, value = waiting.pop()
        values += 1
        if values > MOST_VALUES:
            raise InputError(f"{where}: holds more than {MOST_VALUES:,} values, which no config does.")
        if isinstance(value, dict):
            for key, inner in value.items():
                if not isinstance(key, (str, int)) or isinstance(key, bool):  # some fields are tables by number
                    raise InputError(f"{place}: the key {shown(key)} is no text; write it in quotes.")
                waiting.append((f"{place}: {one_line(key, 40)}", inner))
        elif isinstance(value, list):
            waiting.extend((place, inner) for inner in value)


LARGEST = 1_000_000
"""Bytes of a config file."""
MOST_VALUES = 10_000


def _read_yaml(text: str) -> Any:
    yaml = needed("yaml", "YAML")
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


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    """`value`, a table. Raises InputError if it is none."""
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: must be a table of fields; got {shown(value)}.")
    return value


def kind_of(spec: Mapping[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    """The kind that a table names, and its other fields. Raises InputError if it names none."""
    fields = dict(spec)
    if other := next((key for key in fields if not isinstance(key, str)), None):
        raise InputError(f"{where}: the key {shown(other)} is no text; write it in quotes.")
    kind = fields.pop("kind", None)
    if not isinstance(kind, str):
        raise InputError(f"{where}.kind: must name a registered kind; got {shown(kind)}.")
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
