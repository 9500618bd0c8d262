"""Parts of a recording, and which of them a process is to make that a launcher started as one of many."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

from stopkit.errors import InputError


@dataclass(frozen=True)
class Shard:
    """Part `number` (from 1) of `count` parts of a recording: the sequences n ≡ number − 1 mod count."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str, where: str = "shard") -> Self:
        """The shard that `i/n` names. Raises InputError if it names none."""
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise InputError(f"{where}: {text!r} is no shard; write i/n with 1 ≤ i ≤ n, such as 2/4.")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def name(self) -> str:
        """The same for a file's name."""
        return f"{self.number}-of-{self.count}"


WHOLE = Shard(1, 1)


class Launcher(NamedTuple):
    """What starts a process many times, and the variables by which it tells each who it is."""

    name: str
    rank: str
    """The process among all, from 0."""
    size: str
    """How many there are."""
    local: str
    """The process among those of its machine, from 0."""


LAUNCHERS = (
    Launcher("Slurm", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
    Launcher("torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK"),
)


class Rank(NamedTuple):
    """One process of several that a launcher started."""

    launcher: str
    shard: Shard
    """The part of a recording that falls to it."""
    local: int
    """Its number among the processes of its machine, from 0."""


def rank(environment: Mapping[str, str]) -> Rank | None:
    """Which of several processes this is, by its environment variables; None if it is the only one or none says so.

    Raises InputError for variables that say what cannot be.
    """
    for launcher in LAUNCHERS:
        values = [environment.get(name, "") for name in (launcher.rank, launcher.size)]
        if not all(values) or values[1] == "1":
            continue
        number, count = (int(value) if value.isdecimal() else -1 for value in values)
        if not 0 <= number < count:
            raise InputError(
                f"{launcher.rank}: is {values[0]!r}, and {launcher.size} is {values[1]!r}; give --shard i/n yourself."
            )
        local = environment.get(launcher.local, "0")
        return Rank(launcher.name, Shard(number + 1, count), int(local) if local.isdecimal() else 0)
    return None
