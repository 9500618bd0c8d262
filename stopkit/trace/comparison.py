"""Policies side by side on one trace, at every pair of costs, with the bounds: rows like those of `stopkit compare`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

from pydantic.fields import FieldInfo

from stopkit.costs import FixedCosts
from stopkit.errors import InputError
from stopkit.plugins import registry
from stopkit.policy import StoppingPolicy
from stopkit.spec import load_policy
from stopkit.trace.bounds import bounds
from stopkit.trace.replay import Replay, lacking, replay
from stopkit.trace.trace import Trace

ENGINE = "replay"
Tick = Callable[[str, float], None]
"""Told who is at work, and what part of that work has been done since."""


@dataclass(frozen=True)
class TraceComparison:
    """What to replay, on what, at what costs. `policies` are by the text the user gave."""

    trace: Trace
    policies: Mapping[str, StoppingPolicy]
    costs: Sequence[FixedCosts]

    def replays(self, tick: Tick = lambda name, part: None) -> Iterator[tuple[str, list[Replay]]]:
        """What every bound and then every policy did at each of the costs, one after another."""
        limits = []
        for costs in self.costs:
            limits.append(bounds(self.trace, costs))
            tick("bounds", 1 / len(self.costs))
        for name in limits[0]:
            yield name, [bound[name] for bound in limits]
        for name, policy in self.policies.items():
            yield name, replay(self.trace, policy, self.costs, partial(tick, name))

    def rows(self, done: Mapping[str, Sequence[Replay]]) -> list[dict[str, Any]]:
        """A row for every pair of costs and everything that is `done`: policies first, then the bounds.

        `speedup` is tokens per target-step time, `of_clairvoyant` its share of the clairvoyant bound's. Counts and
        seconds are as everywhere; `draft_cost` and `verify_cost` are in target-step times.
        """
        names = [name for name in self.policies if name in done] + [name for name in done if name not in self.policies]
        return [self._row(name, cell, done) for cell in range(len(self.costs)) for name in names]

    def _row(self, name: str, cell: int, done: Mapping[str, Sequence[Replay]]) -> dict[str, Any]:
        replayed, costs = done[name][cell], self.costs[cell]
        return {
            "policy": name,
            "engine": ENGINE,
            "temperature": self.trace.metadata.sampling.temperature,
            "batch_size": 1,
            **replayed.stats.as_dict(),
            "draft_cost": costs.draft_cost,
            "verify_cost": costs.verify_cost,
            "speedup": replayed.speedup,
            "of_clairvoyant": replayed.speedup / done["clairvoyant"][cell].speedup,
        }


def require_servable(trace: Trace, policies: Mapping[str, StoppingPolicy]) -> None:
    """Raise InputError, with its name, if `trace` cannot serve one of `policies`."""
    for name, policy in policies.items():
        if reason := lacking(trace, policy):
            raise InputError(f"policy {name!r}: {reason}.")


def servable(trace: Trace) -> tuple[dict[str, StoppingPolicy], dict[str, str]]:
    """Every registered policy with its defaults that `trace` can serve, and why it cannot serve the others."""
    policies: dict[str, StoppingPolicy] = {}
    left_out: dict[str, str] = {}
    for kind, cls in registry().policies.items():
        if files := [name for name, field in cls.model_fields.items() if _lacks_its_file(field)]:
            left_out[kind] = f"{files[0]} names no file"
            continue
        try:
            policy = load_policy(kind)
        except InputError as error:
            left_out[kind] = " ".join(str(error).split()).removeprefix("policy.").rstrip(".")
            continue
        if reason := lacking(trace, policy):
            left_out[kind] = reason
        else:
            policies[kind] = policy
    return policies, left_out


def _lacks_its_file(field: FieldInfo) -> bool:
    """Whether a policy could be given a file there and has none by default: it is not itself without."""
    return Path in get_args(field.annotation) and field.default is None
