"""What a policy says of itself: in a listing, a config's schema, a log."""

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from stopkit.policy import TOLD, StoppingPolicy
from stopkit.schema import fields
from stopkit.signals import SIGNALS
from stopkit.testing.checks import Draw

NAME = r"[a-z][a-z0-9_]*"
LONGEST_REPR = 200
BOUNDS = ({"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"})


def says_what_it_is(policy: StoppingPolicy, draw: Draw) -> None:
    """Its kind is a plain lower-case name, its class has a docstring, and the signals and context it reads exist."""
    kind, cls = getattr(policy, "kind", None), type(policy)
    assert re.fullmatch(NAME, str(kind)), f"kind {kind!r} is not a name of lower-case letters, digits and underscores"
    assert inspect.cleandoc(cls.__doc__ or ""), f"{cls.__name__} has no docstring; its first line is shown in listings"
    unknown = sorted(policy.required_signals - SIGNALS)
    assert not unknown, f"there are no signals {unknown}; there are {sorted(SIGNALS)}"
    untold = sorted(policy.required_context - TOLD)
    assert not untold, f"no context is declared by {untold}; there are {sorted(TOLD)}"


def describes_every_field(policy: StoppingPolicy, draw: Draw) -> None:
    """Every field, nested ones too, has a description."""
    silent = [field.name for field in fields(type(policy)) if not field.description.strip()]
    assert not silent, f"no description: {', '.join(silent)}; give pydantic's Field one, with the unit"


def bounds_every_number(policy: StoppingPolicy, draw: Draw) -> None:
    """Every number that a config may hold, nested ones too, has a least and a largest value."""
    loose = list(_unbounded(type(policy).model_json_schema(), ""))
    assert not loose, f"no least or no largest value: {', '.join(loose)}; give pydantic's Field ge or gt, and le or lt"


def has_a_short_repr(policy: StoppingPolicy, draw: Draw) -> None:
    """With default fields its repr is one line of at most 200 characters."""
    try:
        shown = repr(type(policy)())
    except ValidationError:  # a field is required
        shown = repr(policy)
    assert "\n" not in shown, f"repr has more than one line:\n{shown}"
    assert len(shown) <= LONGEST_REPR, f"repr has {len(shown)} characters, more than {LONGEST_REPR}: {shown}"


def _unbounded(node: Any, path: str) -> Iterator[str]:
    if isinstance(node, list):
        for branch in node:
            yield from _unbounded(branch, path)
    if not isinstance(node, Mapping):
        return
    is_number = node.get("type") in ("integer", "number") and not {"enum", "const"} & node.keys()
    if is_number and not all(bound & node.keys() for bound in BOUNDS):
        yield path
    for name, branch in node.items():
        if name in ("properties", "$defs"):
            for inner, schema in branch.items():
                yield from _unbounded(schema, f"{path}.{inner}".strip("."))
        elif name != "default":
            yield from _unbounded(branch, path)
