"""The code that graphs are captured from, as hashes: a graph is used while they stay the same."""

import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Any

from stopkit.combinator import Combinator
from stopkit.policy import StoppingPolicy


@cache
def of_rooms(*rooms: ModuleType) -> str:
    """Of the modules of packages, without those of packages within them."""
    return _hash(file for room in rooms for place in room.__path__ for file in Path(place).glob("*.py"))


def of_policy(policy: StoppingPolicy) -> str:
    """Of the package that a policy is from, those of its members, and the files that their fields name.

    Raises OSError or TypeError if one cannot be found or read.
    """
    return _hash([*(file for each in _members(policy) for file in _code(type(each))), *_named(policy.model_dump())])


def _hash(files: Iterable[Path]) -> str:
    digest = blake2b(digest_size=16)
    for file in sorted(set(files)):
        digest.update(blake2b(file.read_bytes()).digest())
    return digest.hexdigest()


def _members(policy: StoppingPolicy) -> Iterator[StoppingPolicy]:
    yield policy
    if isinstance(policy, Combinator):
        for member in policy.members:
            yield from _members(member)


def _code(kind: type) -> Iterator[Path]:
    """The files of the package that a class is from; its own if that is none."""
    package = sys.modules[kind.__module__.partition(".")[0]]
    for place in getattr(package, "__path__", ()):
        yield from Path(place).rglob("*.py")
    yield Path(inspect.getfile(kind))


def _named(values: Any) -> Iterator[Path]:
    if isinstance(values, Path):
        yield values
    elif isinstance(values, (Mapping, list, tuple)):
        for each in values.values() if isinstance(values, Mapping) else values:
            yield from _named(each)
