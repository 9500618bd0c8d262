"""What can be written in a config: fields of a kind for people, a JSON Schema of the whole file for editors."""

import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import CoreSchema
from pydantic_core.core_schema import DictSchema

from stopkit.config import DEFAULT_ENGINE
from stopkit.engine import Engine
from stopkit.generation import GenerationOptions
from stopkit.plugins import Registry
from stopkit.policy import StoppingPolicy
from stopkit.spec import ALIASES, READERS

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
BOUNDS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}
TYPES = {"null": "unset", "object": "table"}
"""JSON types that people know by another name."""
NESTED = {StoppingPolicy.__name__: "policy", Engine.__name__: "engine"}
"""Base classes that stand for any registered kind where they are the type of a field; what such a field holds."""


@dataclass(frozen=True)
class Field:
    """One field of a config block; fields of a nested block have a dotted name."""

    name: str
    type: str
    default: str
    """As it would be written in a config; "unset" for none, empty if the field is required."""
    bounds: str
    description: str


def fields(cls: type[BaseModel]) -> list[Field]:
    """The fields of `cls`, those of nested blocks after the block."""
    schema = cls.model_json_schema(schema_generator=Generator)
    return list(_fields(schema, schema.get("$defs", {}), ""))


class Generator(GenerateJsonSchema):
    """Writes defaults as a config would, and says which keys a map has."""

    def encode_default(self, dft: Any) -> Any:
        return super().encode_default(brief(dft))

    def dict_schema(self, schema: DictSchema) -> Schema:
        keys: CoreSchema | None = schema.get("keys_schema")
        whole = {"propertyNames": {"pattern": "^[0-9]+$"}} if keys is not None and keys["type"] == "int" else {}
        return super().dict_schema(schema) | whole


def brief(value: Any) -> Any:
    """`value` as it would be written by hand: of a policy its kind alone, or with the fields that are not default."""
    if isinstance(value, StoppingPolicy):
        changed = {name: brief(field) for name, field in value.__repr_args__()}
        return {"kind": value.kind, **changed} if changed else value.kind
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, Mapping):
        return {str(key): brief(inner) for key, inner in value.items()}
    return [brief(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def config_schema(registered: Registry) -> Schema:
    """The JSON Schema of a config file: a closed union over the kinds that are registered here."""
    defs: Schema = {}
    policies = [_variant(cls, defs) for cls in registered.policies.values()]
    policies += [_alias(name, block["kind"]) for name, block in ALIASES.items() if block["kind"] in registered.policies]
    engines = [_variant(cls, defs) for cls in registered.engines.values()]
    named = {"type": "string", "pattern": _specs([*registered.policies, *ALIASES])}
    defs |= {"policy": {"anyOf": [{"oneOf": policies}, named]}, "engine": {"oneOf": engines}}
    sections = {
        "policy": {"$ref": "#/$defs/policy", "description": "what to stop drafting with"},
        "engine": {"$ref": "#/$defs/engine", "description": "what to run on"},
        "generation": {**_lift(GenerationOptions, defs), "description": "how to generate"},
    }
    title = "stopkit config"
    return {"$schema": DIALECT, "title": title, **_closed(sections), "$defs": defs}


def source_file(cls: type) -> str:
    """The file that `cls` is written in."""
    return inspect.getsourcefile(cls) or "unknown"


def _variant(cls: type[Any], defs: Schema) -> Schema:
    """One kind's block. Only the default engine may go without its kind."""
    schema = _lift(cls, defs)
    schema["properties"] = {"kind": {"const": cls.kind, "description": _summary(cls)}, **schema.get("properties", {})}
    if cls.kind != DEFAULT_ENGINE["kind"]:
        schema["required"] = ["kind", *schema.get("required", [])]
    return schema


def _alias(name: str, kind: str) -> Schema:
    described = {"const": name, "description": f"{kind} with its parameters set"}
    return {**_closed({"kind": described}), "title": name, "required": ["kind"]}


def _specs(kinds: Iterable[str]) -> str:
    """A regular expression for a policy in one line: KIND, KIND:field=value,field=value or a config file's path."""
    return rf"^({'|'.join(map(re.escape, kinds))})(:.*)?$|({'|'.join(map(re.escape, READERS))})$"


def _closed(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _lift(cls: type[BaseModel], defs: Schema) -> Schema:
    """The schema of `cls`, its nested definitions moved to `defs`; a nested policy is a reference to any kind."""
    schema = cls.model_json_schema(ref_template="#/$defs/{model}", schema_generator=Generator)
    definitions = schema.pop("$defs", {})
    defs.update({name: inner for name, inner in definitions.items() if name not in NESTED})
    lifted: Schema = json.loads(json.dumps(schema), object_hook=_point_at_kinds)
    return lifted


def _point_at_kinds(node: Schema) -> Schema:
    name = _name(node)
    return {**node, "$ref": f"#/$defs/{NESTED[name]}"} if name in NESTED else node


def _fields(schema: Schema, defs: Mapping[str, Schema], prefix: str) -> Iterator[Field]:
    required = schema.get("required", [])
    for name, node in schema.get("properties", {}).items():
        nested = next((defs[ref] for ref in _references(node) if ref in defs and ref not in NESTED), None)
        is_block = nested is not None and "properties" in nested
        default = "" if name in required or is_block else _written(node.get("default"))
        parts = [node, *_choices(node)]
        bounds = [form.format(part[key]) for part in parts for key, form in BOUNDS.items() if key in part]
        kind = " or ".join(dict.fromkeys(_type(part) for part in _choices(node) or [node]))
        yield Field(prefix + name, kind, default, ", ".join(bounds), node.get("description", ""))
        if nested is not None and is_block:
            yield from _fields(nested, defs, f"{prefix}{name}.")


def _references(node: Schema) -> Iterable[str]:
    return (_name(part) for part in (node, *_choices(node)) if "$ref" in part)


def _choices(node: Schema) -> Sequence[Schema]:
    """The schemas that a value may follow instead of one, if there are several."""
    return [*node.get("anyOf", ()), *node.get("oneOf", ())]


def _name(node: Schema) -> str:
    """The definition that `node` refers to, if any."""
    return str(node.get("$ref", "")).rpartition("/")[2]


def _type(node: Schema) -> str:
    if "enum" in node:
        return " | ".join(map(str, node["enum"]))
    if "$ref" in node:
        return NESTED.get(_name(node), "table")
    if choices := _choices(node):
        return " or ".join(dict.fromkeys(map(_type, choices)))
    name = TYPES.get(node.get("type", "any"), node.get("type", "any"))
    inner = node.get("items", node.get("additionalProperties"))
    return f"{name} of {_type(inner)}" if isinstance(inner, dict) else str(name)


def _written(value: Any) -> str:
    return "unset" if value is None else json.dumps(value, ensure_ascii=False)


def _summary(cls: type) -> str:
    return (inspect.getdoc(cls) or "").partition("\n")[0]
