"""What a policy says of itself is wrong."""

from collections.abc import Iterable
from typing import Any, ClassVar

from pydantic import BaseModel, Field, field_validator

from tests.meta.broken_policies.sound import Sound, caught_by


@caught_by("says_what_it_is", "not a name of lower-case letters")
class KindOfTwoWords(Sound):
    """Cannot be written on a command line."""

    kind: ClassVar[str] = "Two Words"


@caught_by("says_what_it_is", "no signals ['confidence']")
class UnknownSignal(Sound):
    """Reads what no engine computes."""

    signals: ClassVar[frozenset[str]] = frozenset({"confidence"})


@caught_by("describes_every_field", "no description: patience")
class UndescribedField(Sound):
    """Says nothing of a field."""

    patience: int = Field(default=1, ge=0, le=9)


@caught_by("bounds_every_number", "patience")
class UnboundedField(Sound):
    """Takes any patience."""

    patience: int = Field(default=1, ge=0, description="rounds")


class Inner(BaseModel):
    """A table in a table."""

    rate: float = 1.0


@caught_by("bounds_every_number", "Inner.rate")
class UnboundedInside(Sound):
    """Takes any rate, one level down."""

    inner: Inner = Field(default=Inner(), description="a table")


@caught_by("has_a_short_repr", "characters, more than 200")
class LongRepr(Sound):
    """Shows all that it has."""

    weights: tuple[float, ...] = Field(default=(0.123456,) * 100, description="weights")

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return [("weights", self.weights)]


@caught_by("config_survives_a_file", "comes back as")
class ReadsPercent(Sound):
    """Takes one thing and writes another."""

    share: float = Field(default=50.0, ge=0, le=100, description="percent")

    @field_validator("share")
    @classmethod
    def _fraction(cls, share: float) -> float:
        return share / 100


@caught_by("config_survives_a_file", "comes back as")
class UnsetIsNotTheDefault(Sound):
    """Has a default other than unset, which TOML cannot say."""

    patience: int | None = Field(default=1, ge=0, le=9, description="rounds; unset for ever")

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields or {"patience": None})
