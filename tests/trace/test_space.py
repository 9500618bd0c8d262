"""What `tune` searches: fields by type and bounds, nested tables, and reasons for what it leaves alone."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import pytest
from pydantic import BaseModel, Field

import stopkit
from stopkit import StoppingPolicy
from stopkit.errors import InputError
from stopkit.plugins import registry
from stopkit.trace.space import Choice, space


class Table(BaseModel):
    """A nested table."""

    deep: float = Field(default=0.5, ge=0, le=1)
    unset: float | None = Field(default=None, ge=0, le=1)


class Everything(StoppingPolicy):
    """A field of every sort."""

    kind: ClassVar[str] = "everything"

    share: float = Field(default=0.25, ge=0, le=1)
    weight: float = Field(default=2.0, gt=0, le=1000)
    below: float = Field(default=0.5, ge=0, lt=1)
    endless: float = 3.0
    nowhere: float = 0.0
    tokens: int = Field(default=7, ge=0, le=1024)
    few: int = Field(default=2, ge=1, le=5)
    more: int = Field(default=30, gt=0)
    switch: bool = True
    word: Literal["a", "b", "c"] = "b"
    table: Table = Table()
    map: Mapping[str, int] = Field(default={"a": 1})
    name: str = "x"


@pytest.fixture
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry().policies, "everything", Everything)


def test_types_and_bounds() -> None:
    found = space(Everything())
    assert {choice.name: choice for choice in found.choices} == {
        choice.name: choice
        for choice in (
            Choice("share", 0.25, low=0, high=1),
            Choice("weight", 2.0, low=0.02, high=1000),
            Choice("below", 0.5, low=0, high=1 - 1e-6),
            Choice("endless", 3.0, low=0.3, high=30),
            Choice("tokens", 7, low=0, high=28, whole=True),
            Choice("few", 2, low=1, high=5, whole=True),
            Choice("more", 30, low=1, high=120, whole=True),
            Choice("switch", True, options=(False, True)),
            Choice("word", "b", options=("a", "b", "c")),
            Choice("table.deep", 0.5, low=0, high=1),
        )
    }
    assert {choice.name for choice in found.choices if choice.logarithmic} == {"weight", "endless", "more"}
    assert found.skipped == {
        "nowhere": "has no bounds, and its default gives no scale",
        "table.unset": "can be unset",
        "map": "is no number, switch or word",
        "name": "is no number, switch or word",
    }


@pytest.mark.usefixtures("_registered")
def test_values_make_a_policy() -> None:
    policy = space(Everything(share=0.75)).policy_at({"tokens": 3, "table.deep": 0.125})
    assert policy == Everything(share=0.75, tokens=3, table=Table(deep=0.125))


@pytest.mark.usefixtures("_registered")
def test_values_that_do_not_go_together() -> None:
    with pytest.raises(InputError):
        space(Everything()).policy_at({"share": 2})


def test_some_fields() -> None:
    assert [choice.name for choice in space(Everything(), ["table", "few"]).choices] == ["few", "table.deep"]
    assert [choice.name for choice in space(Everything(), ["table.deep"]).choices] == ["table.deep"]


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        (["tokns"], "--fields: everything has no field 'tokns'. Did you mean 'tokens'?"),
        (["name"], "--fields: name cannot be searched: is no number, switch or word."),
        (["share", "table.unset"], "--fields: table.unset cannot be searched: can be unset."),
    ],
)
def test_wrong_fields(fields: list[str], line: str) -> None:
    with pytest.raises(InputError) as raised:
        space(Everything(), fields)
    assert str(raised.value).startswith(line)


def test_nothing_to_search() -> None:
    class Bare(StoppingPolicy):
        kind: ClassVar[str] = "bare"

    with pytest.raises(InputError, match="policy 'bare': has no field to search"):
        space(Bare())


def test_every_registered_policy_has_its_default_in_reach() -> None:
    searched = 0
    for kind in registry().policies:
        try:
            policy = stopkit.load_policy(kind)
            found = space(policy)
        except InputError:
            continue
        searched += 1
        values = {choice.name: choice.default for choice in found.choices}
        assert found.policy_at(values) == policy
        for choice in found.choices:
            inside = choice.default in choice.options if choice.options else choice.low <= choice.default <= choice.high
            assert inside, f"{kind}.{choice.name}"
            ends = choice.options or (choice.low, choice.high)
            for end in ends:
                found.policy_at({choice.name: end})
    assert searched >= 10
