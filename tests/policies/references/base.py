"""What every reference is made of: one sequence, one position at a time, plain floats."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import reject

NEAR = 1e-6
"""Signals may be float32: a comparison closer than this is not held against a policy."""

KINDS: dict[str, type["Reading"]] = {}


def less(left: float, right: float) -> bool:
    """left < right; gives the example up where rounding may decide. Short binary fractions are exact in any format."""
    difference = left - right
    exact = (left * 64).is_integer() and (right * 64).is_integer()
    if abs(difference) < NEAR and not exact:
        reject()
    return difference < 0


def largest(values: Sequence[float]) -> int:
    """Index of the largest, the first of equals; gives up where rounding may decide among those that differ."""
    best = max(values)
    if any(0 < best - value < 1e-9 * max(1.0, abs(best)) for value in values):
        reject()
    return list(values).index(best)


@dataclass(frozen=True)
class Seen:
    """The signals of one position of one sequence."""

    entropy: float
    max_probability: float
    margin: float
    top_token: int
    probabilities: list[float]
    logits: list[float]
    hidden_state: list[float]


@dataclass(frozen=True)
class Told:
    """What is told of one sequence before a round."""

    last_token: int
    length: int
    entropy: float


@dataclass(frozen=True)
class Seconds:
    """The cost model."""

    draft_step: float
    verify: float
    verify_token: float
    verify_block: float
    first_step: float

    @property
    def block(self) -> float:
        """A block, beside its tokens."""
        return self.verify_block + self.first_step - self.draft_step

    def round(self, drafted: int) -> float:
        """A round with a block of `drafted` tokens."""
        return drafted * (self.draft_step + self.verify_token) + self.verify + (drafted > 0) * self.block


@dataclass(frozen=True)
class Block:
    """One sequence's round, after verification."""

    drafted: int
    accepted: int
    seconds: float
    costs: Seconds
    seen: list[Seen]
    tokens: list[int]

    def first(self, length: int) -> "Block":
        """The round as it would have been with at most `length` tokens."""
        return replace(self, drafted=min(self.drafted, length), accepted=min(self.accepted, length))


class Reading:
    """One sequence under one rule. Attributes that are called as a state value is are what that value must be."""

    carry_over = False
    """Whether all sequences share the values in `learned`."""
    learned: tuple[str, ...] = ()
    members: list["Reading"] = []
    told: Told

    @staticmethod
    def of(block: dict[str, Any]) -> "Reading":
        fields = dict(block)
        return KINDS[fields.pop("kind")](**fields)

    def prepare(self, costs: Seconds, batch_size: int, told: Told) -> None:
        """What is known before a round that some sequence has a part in, even if this one has none."""
        self.told = told
        for member in self.members:
            member.prepare(costs, batch_size, told)

    def plan(self, limit: int, costs: Seconds, batch_size: int) -> int:
        return limit

    def admit(self, position: int, seen: Seen) -> bool:
        return True

    def extend(self, position: int, seen: Seen, token: int) -> bool:
        return True

    def learn(self, block: Block) -> bool:
        """Move what this rule itself has learned; whether the round taught it anything."""
        return False

    def part(self, index: int, block: Block) -> Block | None:
        """What the member at `index` learns from; None if it has no part in the round."""
        return block

    def share(self, taught: Sequence["Reading"], rows: Sequence["Reading"]) -> None:
        """What all sequences share is the mean of what each that was taught makes of it."""
        for name in self.learned:
            made = [getattr(row, name) for row in taught]
            if isinstance(made[0], list):
                mean: Any = [sum(column) / len(made) for column in zip(*made, strict=True)]
            else:
                mean = sum(made) / len(made)
            for row in rows:
                setattr(row, name, list(mean) if isinstance(mean, list) else mean)

    def settle(self) -> None:
        """Draw conclusions from what was learned, once it has been shared."""


def learn_together(rows: Sequence[Reading], blocks: Sequence[Block | None]) -> None:
    """One policy's sequences after a round; those without a block had no part in it."""
    one = rows[0]
    taught = [row for row, block in zip(rows, blocks, strict=True) if block and row.learn(block)]
    if one.carry_over and taught:
        one.share(taught, rows)
        taught = list(rows)
    for row in taught:
        row.settle()
    for index in range(len(one.members)):
        parts = [row.part(index, block) if block else None for row, block in zip(rows, blocks, strict=True)]
        learn_together([row.members[index] for row in rows], parts)
