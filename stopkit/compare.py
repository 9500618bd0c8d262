"""Run policies side by side and turn what they did into rows. Every policy meets the same prompts and seeds.

Runs are interleaved: each batch is decoded by every policy in turn, in an order that rotates, so that a machine that
warms up or slows down favours none. What a policy carries over it keeps from batch to batch, and every repeat begins
without. Speed-up is taken within a repeat, against autoregressive decoding of the same
prompts at the same temperature; medians over the repeats follow.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from stopkit.completions import complete
from stopkit.engine import Engine
from stopkit.generation import GenerationOptions, GenerationResult
from stopkit.intervals import Work, standings
from stopkit.policy import StoppingPolicy
from stopkit.prompts import WrittenPrompt, batches
from stopkit.spec import load_policy
from stopkit.statistics import Statistics, total
from stopkit.validation import validated

BASELINE = "autoregressive"
CONTROLS = (BASELINE, "static:length=2")
"""What every comparison has in it."""
DEFAULT_POLICIES = ("static", "adaedl", "max_probability", "goodput")
WARM_UP_TOKENS = 8

Cell: TypeAlias = tuple[str, float]
"""A policy's name and a temperature."""
Repeat: TypeAlias = Mapping[Cell, Sequence[Statistics]]
"""What every cell did in one pass over the prompts, batch by batch."""


@dataclass(frozen=True)
class Comparison:
    """What to compare, on what. `policies` are by the text the user gave, the baseline first."""

    policies: Mapping[str, StoppingPolicy]
    temperatures: Sequence[float]
    prompts: Sequence[WrittenPrompt]
    options: GenerationOptions
    batch_size: int = 1

    @property
    def runs(self) -> int:
        """Generations in one repeat."""
        return len(self.policies) * len(self.temperatures) * -(-len(self.prompts) // self.batch_size)

    def repeats(self, engine: Engine, count: int, tick: Callable[[str], None] = lambda name: None) -> Iterator[Repeat]:
        """Warm up, then run `count` times, each repeat given as it is complete; `tick(policy)` after every generation.

        Raises InputError naming the prompt or the option that is wrong.
        """
        parts = batches(self.prompts, self.batch_size, self.options.seed)
        settings = {temperature: self._at(temperature) for temperature in self.temperatures}
        short = min(WARM_UP_TOKENS, self.options.max_new_tokens)
        for temperature in self.temperatures:  # an engine may compile for each
            for policy in self.policies.values():
                complete(engine, policy, parts[0], self._at(temperature, max_new_tokens=short))
        turn = 0
        for _ in range(count):
            done: dict[Cell, list[GenerationResult]] = {}
            for temperature, setting in settings.items():
                for batch in parts:
                    for name in _rotated(list(self.policies), turn):
                        before = done.setdefault((name, temperature), [])
                        learned = before[-1].state.outlived() if before else None
                        before.append(complete(engine, self.policies[name], batch, setting, state=learned))
                        tick(name)
                    turn += 1
            yield {cell: [result.stats for result in results] for cell, results in done.items()}

    def rows(self, engine: Engine, repeats: Sequence[Repeat]) -> list[dict[str, Any]]:
        """A row for every policy and temperature; none before the first repeat is complete.

        Counts and seconds are summed over the repeats. `tokens_per_second` and `speedup` are medians over them, and
        `tokens_per_second_range` and `speedup_range` their smallest and largest values. With what tells how sure the
        speed-up is, by resampling batches of prompts; see `stopkit.intervals.Standing`.
        """
        rows: list[dict[str, Any]] = []
        for temperature in self.temperatures if repeats else ():
            at = {name: self._row(engine, (name, temperature), repeats) for name in self.policies}
            work = {name: _work((name, temperature), repeats) for name in self.policies}
            speedups = {name: row["speedup"] for name, row in at.items()}
            placed = standings(speedups, work, work[BASELINE], list(self.policies))
            rows += [row | placed[name].as_row() for name, row in at.items()]
        return rows

    def _row(self, engine: Engine, cell: Cell, repeats: Sequence[Repeat]) -> dict[str, Any]:
        name, temperature = cell
        speeds = [total(repeat[cell]).tokens_per_second for repeat in repeats]
        baseline = [total(repeat[BASELINE, temperature]).tokens_per_second for repeat in repeats]
        speedups = [speed / base for speed, base in zip(speeds, baseline, strict=True)]
        stats = total([part for repeat in repeats for part in repeat[cell]])
        return {
            "policy": name,
            "engine": engine.kind,
            "temperature": temperature,
            "batch_size": self.batch_size,
            **stats.as_dict(),
            "tokens_per_second": statistics.median(speeds),
            "tokens_per_second_range": [min(speeds), max(speeds)],
            "speedup": statistics.median(speedups),
            "speedup_range": [min(speedups), max(speedups)],
            "repeats": len(repeats),
        }

    def _at(self, temperature: float, **changed: Any) -> GenerationOptions:
        fields = {**self.options.model_dump(), "temperature": temperature, **changed}
        return validated(GenerationOptions, fields, "generation")


def _work(cell: Cell, repeats: Sequence[Repeat]) -> Work:
    """What a cell did on every batch of prompts, in every repeat."""
    done = [[(part.tokens, sum(part.seconds.values())) for part in repeat[cell]] for repeat in repeats]
    tokens, seconds = torch.tensor(done, dtype=torch.float64).transpose(0, 1).unbind(2)
    return Work(tokens, seconds)


def with_baseline(policies: Mapping[str, StoppingPolicy]) -> dict[str, StoppingPolicy]:
    """`policies` by their names, the autoregressive baseline first."""
    return {BASELINE: load_policy(BASELINE), **policies}


def with_controls(policies: Mapping[str, StoppingPolicy]) -> dict[str, StoppingPolicy]:
    """The same, with every control that is not among them at the end."""
    return with_baseline(policies) | {spec: load_policy(spec) for spec in CONTROLS if spec not in policies}


def outside_forwards(rows: Sequence[Mapping[str, Any]]) -> float:
    """Share of wall time that was spent in neither model."""
    seconds = [row["seconds"] for row in rows]
    inside = sum(spent["draft"] + spent["verify"] for spent in seconds)
    whole = sum(sum(spent.values()) for spent in seconds)
    return 1 - inside / whole if whole else 0.0


def _rotated(names: list[str], turn: int) -> list[str]:
    first = turn % len(names)
    return names[first:] + names[:first]
