"""Contestants on the same prompts, in turns: each does every batch of a pass, in an order that rotates."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from stopkit.errors import StopkitError, one_line
from stopkit.generation import GenerationOptions
from stopkit.intervals import Work, standings
from stopkit.statistics import Statistics, total
from stopkit_engines.bench.contestants import PEER, PLAIN, Contestant, Done
from stopkit_engines.bench.memory import peak

WARM_UP_TOKENS = 8
BASELINES = {PEER: PLAIN}
"""What a speed-up is against, by what it runs on; on stopkit's engines it is autoregressive decoding."""
AUTOREGRESSIVE = "autoregressive"


class Name(NamedTuple):
    """A contestant."""

    engine: str
    policy: str

    @property
    def baseline(self) -> "Name":
        """What its speed-up is against."""
        return Name(self.engine, BASELINES.get(self.engine, AUTOREGRESSIVE))

    @property
    def assisted(self) -> bool:
        """Whether it is transformers' own speculative decoding."""
        return self.engine == PEER and self.policy != PLAIN


@dataclass
class Contest:
    """`contestants` on batches of prompts, token ids, under one set of `options`; what they did is in `done`.

    One that fails is left out from then on, and its reason is in `failed`.
    """

    contestants: Mapping[Name, Contestant]
    batches: Sequence[Sequence[Sequence[int]]]
    options: GenerationOptions
    device: torch.device
    done: dict[Name, list[list[Done]]] = field(default_factory=dict)
    """What each did, batch by batch, in every pass that it came through."""
    failed: dict[Name, str] = field(default_factory=dict)
    peaks: dict[Name, int | None] = field(default_factory=dict)
    """Bytes of memory at most."""

    def passes(self, count: int) -> Iterator[Name]:
        """Warm up, then run `count` passes; gives the name of whoever has just run."""
        short = self.options.model_copy(update={"max_new_tokens": min(WARM_UP_TOKENS, self.options.max_new_tokens)})
        for name in self.contestants:
            self._run(name, self.batches[0], short)
            yield name
        for number in range(count):
            done: dict[Name, list[Done]] = {name: [] for name in self.contestants if name not in self.failed}
            for name in done:
                self.contestants[name].begin()
            for turn, batch in enumerate(self.batches, start=number):
                for name in _rotated([*done], turn):
                    if result := self._run(name, batch, self.options):
                        done[name].append(result)
                        yield name
            for name, results in done.items():
                if name not in self.failed:
                    self.done.setdefault(name, []).append(results)

    def _run(self, name: Name, batch: Sequence[Sequence[int]], options: GenerationOptions) -> Done | None:
        if name in self.failed:
            return None
        found: dict[str, Any] = {}
        try:
            with peak(self.device, found):
                result = self.contestants[name].run(batch, options)
        except (StopkitError, RuntimeError, ValueError, TypeError) as error:  # a peer raises errors of many kinds
            self.failed[name] = one_line(error, most=200) or type(error).__name__
            return None
        self.peaks[name] = max((self.peaks.get(name) or 0, found["peak_memory"] or 0)) or None
        return result

    def rows(self) -> list[dict[str, Any]]:
        """A row for every contestant that came through a pass, and one with its reason for every one that failed."""
        speeds = {name: [_speed(results) for results in passes] for name, passes in self.done.items()}
        speedups = {
            name: statistics.median(_ratios(speeds[name], speeds[name.baseline]))
            for name in speeds
            if name.baseline in speeds
        }
        assisted = {name: statistics.median(speed) for name, speed in speeds.items() if name.assisted}
        best = speeds[max(assisted, key=lambda name: assisted[name])] if assisted else None
        rows = [self._row(name, speeds, best) | self._standing(name, speedups) for name in speeds]
        return rows + [self._about(name) | {"error": reason} for name, reason in self.failed.items()]

    def _about(self, name: Name) -> dict[str, Any]:
        rows = max(map(len, self.batches))
        return {
            "engine": name.engine,
            "policy": name.policy,
            "temperature": self.options.temperature,
            "batch_size": rows,
        }

    def _row(self, name: Name, speeds: Mapping[Name, list[float]], assisted: list[float] | None) -> dict[str, Any]:
        done = [result for results in self.done[name] for result in results]
        stats = total([result.stats for result in done])
        row = {
            **self._about(name),
            **stats.as_dict(),
            **_several("tokens_per_second", speeds[name]),
            "repeats": len(speeds[name]),
            "acceptance_length": stats.tokens / stats.rounds if stats.rounds else None,
            "accepted_given_all_before": _given_all_before(stats),
            "time_to_first_token": statistics.median(result.first for result in done),
            "time_per_output_token": statistics.median(_each_later(result) for result in done),
            "outside_forwards": _outside(stats) if stats.rounds else None,
            "peak_memory": self.peaks[name],
            "equal_rows": self._equal(name),
        }
        if baseline := speeds.get(name.baseline):
            row |= _several("speedup", _ratios(speeds[name], baseline))
        if assisted:
            row |= _several("against_assisted", _ratios(speeds[name], assisted))
        return row

    def _standing(self, name: Name, speedups: Mapping[Name, float]) -> dict[str, Any]:
        """How sure its speed-up is, and whether it can be told from the best of its engine."""
        beside = {str(each): ratio for each, ratio in speedups.items() if each.engine == name.engine}
        if name not in speedups:
            return {}
        work = {str(each): _work(self.done[each]) for each in speedups if each.engine == name.engine}
        return standings(beside, work, work[str(name.baseline)], [*beside])[str(name)].as_row()

    def _equal(self, name: Name) -> float | None:
        """Share of the outputs of the first pass that are transformers' own; None where tokens are drawn."""
        plain = self.done.get(Name(PEER, PLAIN))
        if plain is None or not self.options.greedy:
            return None
        pairs = [
            pair
            for own, theirs in zip(self.done[name][0], plain[0], strict=True)
            for pair in zip(own.tokens, theirs.tokens, strict=True)
        ]
        return statistics.fmean([*own] == [*theirs] for own, theirs in pairs)


def _speed(results: Sequence[Done]) -> float:
    """Tokens per second of a pass."""
    return sum(result.stats.tokens for result in results) / sum(result.seconds for result in results)


def _ratios(speeds: Sequence[float], against: Sequence[float]) -> list[float]:
    """Pass by pass, as far as both came."""
    return [own / other for own, other in zip(speeds, against, strict=False)]


def _several(name: str, values: Sequence[float]) -> dict[str, Any]:
    return {name: statistics.median(values), f"{name}_range": [min(values), max(values)]}


def _work(passes: Sequence[Sequence[Done]]) -> Work:
    done = [[(result.stats.tokens, result.seconds) for result in results] for results in passes]
    tokens, seconds = torch.tensor(done, dtype=torch.float64).transpose(0, 1).unbind(2)
    return Work(tokens, seconds)


def _each_later(result: Done) -> float:
    longest = max(map(len, result.tokens))
    return (result.seconds - result.first) / max(1, longest - 1)


def _given_all_before(stats: Statistics) -> list[float | None]:
    """How many of the blocks whose earlier tokens were all accepted had each position accepted, too."""
    offered, accepted = stats.offered_by_position, stats.accepted_by_position
    before = [offered[0], *accepted] if offered else []
    reached = [min(all_before, there) for all_before, there in zip(before, offered, strict=False)]
    return [kept / count if count else None for kept, count in zip(accepted, reached, strict=False)]


def _outside(stats: Statistics) -> float:
    inside = stats.seconds["draft"] + stats.seconds["verify"]
    return 1 - inside / sum(stats.seconds.values())


def _rotated(names: list[Name], turn: int) -> list[Name]:
    first = turn % len(names) if names else 0
    return names[first:] + names[:first]
