"""What a generation did and what it cost: one vocabulary for results, tables, JSON and traces."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from itertools import zip_longest
from typing import Any, Self

import torch

PHASES = ("draft", "verify", "policy", "other")


@dataclass
class Statistics:
    """Exact counts. Rounds, drafted and accepted tokens are counted per sequence and added up over a batch."""

    tokens: int = 0
    """Tokens emitted, prompt excluded."""
    rounds: int = 0
    """Rounds of single sequences: every sequence's block and its verification."""
    drafted: int = 0
    """Tokens that entered a block."""
    accepted: int = 0
    """Tokens of blocks that verification accepted."""
    offered_by_position: list[int] = field(default_factory=list)
    """How many blocks were longer than i, for i = 0, 1, …"""
    accepted_by_position: list[int] = field(default_factory=list)
    """How many blocks were accepted beyond position i."""
    draft_forwards: int = 0
    """Forward calls of the draft model, each for the whole batch."""
    target_forwards: int = 0
    """Forward calls of the target model, each for the whole batch."""
    nonfinite_drafts: int = 0
    """Draft steps of single sequences that were cut because the draft's logits were NaN or infinite."""
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    """Wall time: draft forwards, target forwards, the policy's verbs, everything else.

    Where an engine makes a draft step by one call, with verbs and draws in it, all of that is time of the draft.
    """

    @property
    def acceptance_rate(self) -> float:
        """Accepted / drafted; 0 when nothing was drafted."""
        return self.accepted / self.drafted if self.drafted else 0.0

    @property
    def block_efficiency(self) -> float:
        """Tokens emitted per target forward that a sequence took part in."""
        return self.tokens / self.rounds if self.rounds else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Tokens of all sequences together per second of wall time."""
        total = sum(self.seconds.values())
        return self.tokens / total if total else 0.0

    def count_block(self, drafted: int, accepted: int) -> None:
        """Count one sequence's round: what was accepted and the target's own token were emitted."""
        self.rounds += 1
        self.tokens += accepted + 1
        self.drafted += drafted
        self.accepted += accepted
        _count(self.offered_by_position, drafted)
        _count(self.accepted_by_position, accepted)
        self.accepted_by_position.extend([0] * (len(self.offered_by_position) - len(self.accepted_by_position)))

    def __add__(self, other: Self) -> Self:
        return type(self)(**{f.name: _add(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)})

    def as_dict(self) -> dict[str, Any]:
        """Every field and derived figure, ready for JSON."""
        derived = ("acceptance_rate", "block_efficiency", "tokens_per_second")
        counted = {f.name: getattr(self, f.name) for f in fields(self)}
        return counted | {name: getattr(self, name) for name in derived}


def total(parts: Sequence[Statistics]) -> Statistics:
    """The sum of `parts`."""
    return sum(parts, start=Statistics())


def _count(histogram: list[int], length: int) -> None:
    histogram.extend([0] * (length - len(histogram)))
    for position in range(length):
        histogram[position] += 1


def _add(a: Any, b: Any) -> Any:
    if isinstance(a, list):
        return [x + y for x, y in zip_longest(a, b, fillvalue=0)]
    if isinstance(a, dict):
        return {key: a[key] + b[key] for key in a}
    return a + b


class Phase:
    """Counts what a block of code takes on a stopwatch. A class, as it is entered several times a token."""

    __slots__ = ("_name", "_start", "_stopwatch")

    def __init__(self, stopwatch: "Stopwatch", name: str) -> None:
        self._stopwatch, self._name = stopwatch, name

    def __enter__(self) -> None:
        self._start = self._stopwatch.mark()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._stopwatch.count(self._name, self._start)


class Stopwatch:
    """Splits wall time into phases. On a GPU a phase lasts until the work it launched is done, by CUDA events."""

    def __init__(self, device: torch.device) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._mark = _cuda_mark if device.type == "cuda" else time.perf_counter
        self.between: Callable[[Any, Any], float] = _cuda_between if device.type == "cuda" else _between
        """Seconds between two moments that `mark` gave; waits for the device."""
        self._open: list[tuple[str, Any, Any]] = []
        self._began = self._mark()

    def phase(self, name: str) -> "Phase":
        """Count the enclosed work as `name`. Phases do not nest."""
        return Phase(self, name)

    def mark(self) -> Any:
        """The present moment, for `count`."""
        return self._mark()

    def count(self, name: str, start: Any) -> None:
        """Count what has passed since the moment `start` as `name`; `phase` without the block."""
        self._open.append((name, start, self._mark()))

    def lap(self, name: str) -> None:
        """Count what has passed since the last phase ended as `name`."""
        start = self._open[-1][2] if self._open else self._began
        self._open.append((name, start, self._mark()))

    def settle(self) -> dict[str, float]:
        """Seconds by phase since the last call, "other" being the rest; waits for the device."""
        now = self._mark()
        spent = self._spent(now)
        self._open, self._began = [], now
        self.seconds = _add(self.seconds, spent)
        return spent

    def so_far(self) -> dict[str, float]:
        """Seconds by phase in all; waits for the device, and changes nothing."""
        return dict(_add(self.seconds, self._spent(self._mark())))

    def _spent(self, now: Any) -> dict[str, float]:
        spent = dict.fromkeys(PHASES, 0.0)
        for name, start, end in self._open:
            spent[name] += self.between(start, end)
        spent["other"] += max(0.0, self.between(self._began, now) - sum(spent.values()))
        return spent


def _between(start: float, end: float) -> float:
    return end - start


def _cuda_mark() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def _cuda_between(start: torch.cuda.Event, end: torch.cuda.Event) -> float:
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3
