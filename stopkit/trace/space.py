"""What of a policy can be searched: its fields by name, with where to look, from their types and bounds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from stopkit.errors import InputError
from stopkit.kinds import as_block
from stopkit.policy import StoppingPolicy
from stopkit.schema import NESTED, Generator
from stopkit.validation import did_you_mean, validated

Schema = Mapping[str, Any]
SMALLEST = 0.01
"""Where a field that must be more than 0 begins, as a share of its default."""
WIDEST = 4
"""How far whole numbers are searched, in defaults: bounds of 1024 tokens are no place to look."""
FEWEST = 16
"""Whole numbers up to this are searched whatever the default."""
LOGARITHMIC = 100
"""Ranges whose ends have this ratio or more are searched by order of magnitude."""


@dataclass(frozen=True)
class Choice:
    """A field: one of `options`, or a number from `low` to `high`."""

    name: str
    """Fields of a nested table have a dotted name."""
    default: Any
    options: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    whole: bool = False

    @property
    def logarithmic(self) -> bool:
        """Whether to search by order of magnitude."""
        return not self.options and self.low > 0 and self.high / self.low >= LOGARITHMIC


@dataclass(frozen=True)
class Space:
    """The fields of `policy` to search; the others keep its values."""

    policy: StoppingPolicy
    choices: tuple[Choice, ...]
    skipped: Mapping[str, str]
    """Fields that cannot be searched, and why."""

    def policy_at(self, values: Mapping[str, Any]) -> StoppingPolicy:
        """The policy with `values` by field. Raises InputError if they do not go together."""
        block = as_block(self.policy)
        for name, value in values.items():
            *tables, last = name.split(".")
            table = block
            for part in tables:
                table = table[part]
            table[last] = value
        del block["kind"]  # the class is known, and need not be one that is registered
        return validated(type(self.policy), block, "policy")


def space(policy: StoppingPolicy, only: Sequence[str] = ()) -> Space:
    """What of `policy` to search: all that can be, or the fields `only`; a table's name stands for its fields.

    Raises InputError if one of `only` is not there or cannot be searched, or if there is nothing to search.
    """
    fields = searchable(policy)
    for name in only:
        if not (matching := [field for field in fields if _is_of(field, name)]):
            raise InputError(f"--fields: {policy.kind} has no field {name!r}.{did_you_mean(name, fields)}")
        if isinstance(reason := fields[matching[0]], str) and len(matching) == 1:
            raise InputError(f"--fields: {name} cannot be searched: {reason}.")
    chosen = {field: what for field, what in fields.items() if not only or any(_is_of(field, name) for name in only)}
    choices = tuple(what for what in chosen.values() if isinstance(what, Choice))
    if not choices:
        raise InputError(f"policy {policy.kind!r}: has no field to search.")
    return Space(policy, choices, {field: what for field, what in chosen.items() if isinstance(what, str)})


def searchable(values: BaseModel) -> dict[str, Choice | str]:
    """Every field of a pydantic object with what to search, from its value on, or with why it cannot be searched."""
    schema = type(values).model_json_schema(schema_generator=Generator)
    return dict(_choices(schema, schema.get("$defs", {}), values.model_dump(mode="json"), ""))


def _is_of(field: str, name: str) -> bool:
    return field == name or field.startswith(f"{name}.")


def _choices(
    schema: Schema, defs: Mapping[str, Schema], values: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, Choice | str]]:
    """The fields below `prefix`, likewise."""
    for field, node in schema.get("properties", {}).items():
        name, value = prefix + field, values[field]
        reference = str(node.get("$ref", "")).rpartition("/")[2]
        if "properties" in defs.get(reference, {}) and reference not in NESTED:
            yield from _choices(defs[reference], defs, value, f"{name}.")
        else:
            yield name, _choice(name, node, value)


def _choice(name: str, node: Schema, default: Any) -> Choice | str:
    match node.get("type"):
        case _ if "enum" in node:
            return Choice(name, default, options=tuple(node["enum"]))
        case "boolean":
            return Choice(name, default, options=(False, True))
        case "integer" | "number":
            return _number(name, node, default, whole=node["type"] == "integer")
        case _:
            return "is no number, switch or word" if "anyOf" not in node else "can be unset"


def _number(name: str, node: Schema, default: float, whole: bool) -> Choice | str:
    low, high = node.get("minimum", node.get("exclusiveMinimum")), node.get("maximum", node.get("exclusiveMaximum"))
    if default <= 0 and (low is None or high is None):
        return "has no bounds, and its default gives no scale"
    if whole:
        low = (1 if low is None else low) + ("exclusiveMinimum" in node)
        widest = max(WIDEST * default, FEWEST)
        high = widest if high is None else min(high - ("exclusiveMaximum" in node), widest)
        return Choice(name, default, low=low, high=max(high, low), whole=True)
    high = 10 * default if high is None else high
    low = default / 10 if low is None else low
    room = high - low
    if "exclusiveMinimum" in node:
        low = SMALLEST * default if low == 0 and default > 0 else low + 1e-6 * room
    if "exclusiveMaximum" in node:
        high -= 1e-6 * room
    return Choice(name, default, low=low, high=high)
