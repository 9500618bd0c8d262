"""What a policy remembers: a value that goes in and comes back, with what belongs to a sequence kept apart from what
all sequences share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor

from stopkit.errors import InputError

Values = Mapping[str, Tensor]


@dataclass(frozen=True)
class State:
    """A tree of tensors, never changed in place.

    `rows` belong to sequences: the first dimension is B. `shared` belong to all sequences of an engine together.
    `parts` are the states of policies nested in this one.
    """

    rows: Values = field(default_factory=dict)
    shared: Values = field(default_factory=dict)
    parts: "tuple[State, ...]" = ()

    @classmethod
    def learned(
        cls, batch_size: int, device: torch.device, *, shared: bool, **values: float | Sequence[float]
    ) -> "State":
        """Values that a policy learns, from what they begin with: each [B, ...], or [1, ...] if sequences share them.

        Code that reads them by `state[name]` and moves them by `moved` is the same for both.
        """
        begin = {name: torch.tensor(value, dtype=torch.float64, device=device) for name, value in values.items()}
        size = 1 if shared else batch_size
        learned = {name: value.repeat(size, *[1] * value.ndim) for name, value in begin.items()}
        return cls(shared=learned) if shared else cls(rows=learned)

    def __getitem__(self, name: str) -> Tensor:
        """The value called `name`, of the rows or shared."""
        return self.rows[name] if name in self.rows else self.shared[name]

    def __or__(self, other: "State") -> "State":
        """The values and parts of both."""
        return State({**self.rows, **other.rows}, {**self.shared, **other.shared}, self.parts + other.parts)

    def flat(self) -> dict[str, Tensor]:
        """Every value by its place, such as `rows.threshold` or `parts.0.shared.gain`."""
        scopes = {"rows": self.rows, "shared": self.shared}
        tree = {f"{scope}.{name}": value for scope, values in scopes.items() for name, value in values.items()}
        for number, part in enumerate(self.parts):
            tree |= {f"parts.{number}.{place}": value for place, value in part.flat().items()}
        return tree

    def filled(self, values: Values, prefix: str = "") -> "State":
        """A tree of this form that holds `values`, which are named as in `flat`."""
        scopes = {"rows": self.rows, "shared": self.shared}
        own = {scope: {name: values[f"{prefix}{scope}.{name}"] for name in names} for scope, names in scopes.items()}
        parts = (part.filled(values, f"{prefix}parts.{number}.") for number, part in enumerate(self.parts))
        return State(**own, parts=tuple(parts))

    def put(self, **values: Tensor) -> Self:
        """This state with `values` in the places of those of the same names."""
        return type(self)(_put(self.rows, values), _put(self.shared, values), self.parts)

    def moved(self, taught: Tensor, **values: Tensor) -> Self:
        """This state once the rows in `taught` (bool [B]) have learned `values` [B, ...].

        A value of the rows is replaced in those rows; a shared one becomes the mean of what those rows make of it.
        """
        return self.put(**{name: self._moved(name, taught, value) for name, value in values.items()})

    def _moved(self, name: str, taught: Tensor, value: Tensor) -> Tensor:
        chosen = _beside(taught, value)
        if name in self.rows:
            return value.where(chosen, self.rows[name])
        mean = value.where(chosen, 0).sum(0, keepdim=True) / taught.sum().clamp(min=1)
        return mean.where(taught.any(), self.shared[name])

    def select(self, index: Tensor) -> Self:
        """The state of the rows at `index` (long, any length, repeats allowed); shared values stay."""
        return self._each_row_value(lambda value: value[index])

    def where(self, chosen: Tensor, other: Self) -> Self:
        """Per row: this state where `chosen` (bool [B]) holds, else `other`; shared values are this state's."""
        return self._each_row_value(
            lambda value, old: value if value is old else value.where(_beside(chosen, value), old), other
        )

    def instead_of(self, other: Self) -> Self:
        """This state, as `where` every row is chosen; raises ValueError if a value of the rows has another shape."""
        return self._each_row_value(_alike, other)

    def append(self, other: Self) -> Self:
        """The rows of `other` after these; shared values are this state's."""
        return self._each_row_value(lambda value, more: torch.cat([value, more]), other)

    def matches(self, other: "State") -> bool:
        """Whether this has the same values, rows and shapes as `other`; what they hold does not matter."""
        return _shapes(self) == _shapes(other)

    def resumed(self, fresh: "State") -> "State":
        """This state for the sequences of `fresh`, a new state of the same policy.

        With as many rows everything continues, row by row. Otherwise the sequences are others: what is shared continues
        and the rows are those of `fresh`. Raises InputError if the state is another policy's, or if nothing continues.
        """
        same = self.matches(fresh)
        if not self.select(_NONE).matches(fresh.select(_NONE)):
            raise InputError("state: is not one of this policy.")
        if not same and not self.couples_rows:
            raise InputError(
                "state: belongs to another number of sequences, and the policy shares nothing between sequences; give "
                "as many prompts, or a policy that carries over what it learns."
            )
        return fresh._taking(self, rows=same)

    def outlived(self) -> "State | None":
        """What is left when its sequences end and others begin: what is shared; None if there is nothing."""
        return self.select(_NONE) if self.couples_rows else None

    @property
    def couples_rows(self) -> bool:
        """Whether rows can influence each other through shared values."""
        return bool(self.shared) or any(part.couples_rows for part in self.parts)

    def _each_row_value(self, change: Callable[..., Tensor], *others: "State") -> Self:
        rows = {name: change(value, *(other.rows[name] for other in others)) for name, value in self.rows.items()}
        twins = [other.parts for other in others]
        parts = tuple(part._each_row_value(change, *twin) for part, *twin in zip(self.parts, *twins, strict=True))
        return replace(self, rows=rows, parts=parts)

    def _taking(self, other: "State", rows: bool) -> "State":
        """This state with the shared values of `other`, and its rows if `rows`, moved to the devices of its own."""
        parts = tuple(part._taking(twin, rows) for part, twin in zip(self.parts, other.parts, strict=True))
        shared = _at(other.shared, self.shared)
        return State(_at(other.rows, self.rows) if rows else self.rows, shared, parts)


_NONE = torch.arange(0)


def _alike(value: Tensor, other: Tensor) -> Tensor:
    if value.shape != other.shape:
        raise ValueError(f"a value of the rows was {list(other.shape)} and became {list(value.shape)}")
    return value


def _beside(flags: Tensor, value: Tensor) -> Tensor:
    """Flags over the rows, shaped to go with a value over the rows."""
    return flags.view(-1, *[1] * (value.ndim - 1))


def _put(values: Values, new: Values) -> Values:
    """`values` updated by those of `new` that it has; itself if it has none, as this is asked at every draft step."""
    changed = any(name in values for name in new)
    return {name: new.get(name, old) for name, old in values.items()} if changed else values


def _at(values: Values, places: Values) -> Values:
    return {name: value.to(places[name].device) for name, value in values.items()}


def _shapes(state: State) -> tuple[Any, ...]:
    shapes = [{name: value.shape for name, value in scope.items()} for scope in (state.rows, state.shared)]
    return (*shapes, *map(_shapes, state.parts))
