"""Turn pydantic's errors into lines that name the place, what was wrong there and what would be right."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from stopkit.errors import InputError, one_line, shown

Model = TypeVar("Model", bound=BaseModel)
HERE = "\ue000"
"""Stands for the place of a nested block, which only the block around it knows."""
NESTED = "nested"
"""Type of a pydantic error whose lines are finished but for `HERE`."""


def validated(cls: type[Model], data: Mapping[str, Any], where: str) -> Model:
    """`cls(**data)`, or InputError with a line for every mistake; `where` is what the user calls this block."""
    try:
        return cls.model_validate(dict(data))
    except ValidationError as error:
        errors = error.errors(include_url=False)
        lines = [_line(cls, details, where) for details in errors if not _follows(details, errors)]
        raise InputError("\n".join(dict.fromkeys(lines))) from None


def nested(load: Callable[[Any, str], Any]) -> BeforeValidator:
    """Validate a field that holds a block by `load(value, where)`, whose InputErrors then name the field."""

    def loaded(value: Any) -> Any:
        try:
            return load(value, HERE)
        except InputError as error:
            raise PydanticCustomError(NESTED, "{lines}", {"lines": str(error)}) from None

    return BeforeValidator(loaded)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` when something known is close, then what there is."""
    names = sorted(known)
    close = difflib.get_close_matches(name[:80], names, n=1)
    guess = f" Did you mean {close[0]!r}?" if close else ""
    return f"{guess} There is: {', '.join(names)}." if names else f"{guess} There is none."


def _line(cls: type[BaseModel], details: ErrorDetails, where: str) -> str:
    path = ".".join(filter(None, [where, *(str(step) for step in details["loc"] if not _is_note(step))]))
    if details["type"] == NESTED:
        return details["msg"].replace(HERE, path)
    if details["type"] == "extra_forbidden":
        known = _fields(cls, details["loc"][:-1])
        return f"{one_line(path)}: unknown field.{did_you_mean(str(details['loc'][-1]), known)}"
    message = details["msg"].removeprefix("Value error, ")
    if details["type"] == "too_short":
        return f"{path}: needs at least {details['ctx']['min_length']}; got {details['ctx']['actual_length']}."
    if details["type"] == "missing":
        return f"{path}: this field is required."
    got = f"; got {shown(details['input'])}" if details["loc"] else ""  # a whole table would only repeat the config
    return f"{path}: {message[0].lower() + message[1:]}{got}."


def _is_note(step: str | int) -> bool:
    """Whether a step says what was read, as `[key]` that a key was, and is no part of the place."""
    return str(step).startswith("[")


def _follows(details: ErrorDetails, errors: Iterable[ErrorDetails]) -> bool:
    """Whether a list is too short only because its entries are wrong, which is an error of its own."""
    place = details["loc"]
    inside = [other for other in errors if other["loc"][: len(place)] == place and len(other["loc"]) > len(place)]
    return details["type"] == "too_short" and bool(inside)


def _fields(cls: type[BaseModel], path: Iterable[str | int]) -> Iterable[str]:
    for step in path:
        field = cls.model_fields.get(str(step))
        inner = field.annotation if field else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break
        cls = inner
    return cls.model_fields
