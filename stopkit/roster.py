"""`Roster`: which sequence is in which row, and what is kept of those that have no row at the moment."""

import itertools
from collections.abc import Callable, Hashable, Iterator, Sequence

import torch
from torch import Tensor

from stopkit.errors import InputError
from stopkit.state import State
from stopkit.statistics import Statistics

Name = Hashable
"""What a sequence is called, such as its number or a request's id."""


class Roster:
    """The sequences of a batch by name, each with its counts and its row of the policy's state.

    `fresh(count)` is the state of new sequences; the rows begin with it, or go on from `state`.
    """

    def __init__(
        self, fresh: Callable[[int], State], ids: Sequence[Name], device: torch.device, state: State | None = None
    ) -> None:
        self._fresh, self._device = fresh, device
        self._away: dict[Name, tuple[Statistics, State]] = {}
        self.ids: Sequence[Name] = ids if isinstance(ids, range) else list(ids)
        """The sequence in each row."""
        self.counts = [Statistics() for _ in self.ids]
        """What is counted of each."""
        begun = fresh(len(self.ids))
        self.state = begun if state is None else state.resumed(begun)
        """What the policy remembers of each, and what they share."""

    def seat(self, ids: Sequence[Name]) -> None:
        """Let the rows be the sequences `ids`; others are kept. Raises InputError if a name is there twice."""
        staying = set(ids)
        if len(staying) < len(ids):
            raise InputError(f"seat: a name is there twice in {list(ids)}; every row is a sequence of its own.")
        counts, state = self.gathered(ids)
        for row, name in enumerate(self.ids):
            if name not in staying:
                self._away[name] = self.counts[row], self.state.select(self._index([row]))
        for name in staying & self._away.keys():
            del self._away[name]
        self.ids, self.counts, self.state = list(ids), counts, state

    def seats(self, ids: Sequence[Name]) -> bool:
        """Whether the rows are the sequences `ids`, in that order."""
        return ids == self.ids or list(ids) == list(self.ids)

    def gathered(self, ids: Sequence[Name]) -> tuple[list[Statistics], State]:
        """The counts and the state of any sequences; those of new ones are as they would begin."""
        if self.seats(ids):
            return self.counts, self.state
        present = set(self.ids)
        back = [name for name in ids if name in self._away]
        new = [name for name in ids if name not in present and name not in self._away]
        counts, state = list(self.counts), self.state
        for name in back:
            counts.append(self._away[name][0])
            state = state.append(self._away[name][1])
        if new:
            counts += [Statistics() for _ in new]
            state = state.append(self._fresh(len(new)))
        place = {name: row for row, name in enumerate([*self.ids, *back, *new])}
        rows = [place[name] for name in ids]
        return [counts[row] for row in rows], state.select(self._index(rows))

    def forget(self, ids: Sequence[Name]) -> list[Statistics]:
        """Let go of the sequences `ids`; what was counted of each. Raises InputError for a name that is not here."""
        for place, name in enumerate(ids):
            if name not in self.ids and name not in self._away:
                raise InputError(f"forget: {name!r} is none of the sequences.")
            if name in ids[:place]:
                raise InputError(f"forget: {name!r} is there twice.")
        self.seat([name for name in self.ids if name not in ids])
        return [self._away.pop(name)[0] for name in ids]

    def select(self, index: Tensor) -> None:
        """Go on with the rows at `index` (any length), and let go of the others. A repeated row gets a new name."""
        rows = index.tolist()
        again = [row in rows[:place] for place, row in enumerate(rows)]
        unused = self._unused()
        self.counts = [self.counts[row] + Statistics() for row in rows]
        self.state = self.state.select(self._index(rows))
        self.ids = [next(unused) if more else self.ids[row] for row, more in zip(rows, again, strict=True)]

    def add(self, count: int) -> None:
        """Put `count` new sequences, numbered on, after the others."""
        self.seat([*self.ids, *itertools.islice(self._unused(), count)])

    def _unused(self) -> Iterator[int]:
        """Numbers that no sequence has for its name."""
        used = {*self.ids, *self._away}
        return itertools.filterfalse(used.__contains__, itertools.count())

    def _index(self, rows: Sequence[int]) -> Tensor:
        return torch.tensor(rows, dtype=torch.long, device=self._device)
