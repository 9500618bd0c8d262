"""Policies side by side on one trace, at every pair of costs, with the bounds: rows like those of `stopkit compare`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

from pydantic.fields import FieldInfo

from stopkit.combinator import Combinator
from stopkit.costs import FixedCosts
from stopkit.errors import InputError
from stopkit.intervals import Standing, standings
from stopkit.plugins import registry
from stopkit.policy import StoppingPolicy
from stopkit.spec import load_policy
from stopkit.trace.bounds import BOUNDS, bounds
from stopkit.trace.replay import Replay, lacking, replay
from stopkit.trace.trace import Trace

ENGINE = "replay"
CONTROLS = ("static:length=2",)
"""What every comparison has in it."""
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
        """A row for every pair of costs and everything that is `done`: policies, best first, then the bounds.

        `speedup` is tokens per target-step time, `of_clairvoyant` its share of the clairvoyant bound's; with what tells
        how sure it is, see `stopkit.intervals.Standing`. Counts and seconds are as everywhere; `draft_cost` and
        `verify_cost` are in target-step times.
        """
        rows = []
        for cell in range(len(self.costs)):
            placed = standings_of({name: replays[cell] for name, replays in done.items()})
            names = sorted(done, key=lambda name: (name in BOUNDS, 0 if name in BOUNDS else -done[name][cell].speedup))
            rows += [self._row(name, cell, done) | placed[name].as_row() for name in names]
        return rows

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


def standings_of(replays: Mapping[str, Replay]) -> dict[str, Standing]:
    """Where policies and bounds stand at one pair of costs, by name; the best is one of the policies."""
    return standings(
        {name: replay.speedup for name, replay in replays.items()},
        {name: replay.work for name, replay in replays.items()},
        1 / next(iter(replays.values())).costs.verify,
        [name for name in replays if name not in BOUNDS],
    )


def contestants(
    trace: Trace, policies: Mapping[str, StoppingPolicy] | None
) -> tuple[dict[str, StoppingPolicy], dict[str, str]]:
    """What to replay: `policies`, or all that are installed and `trace` can serve; with the control. And what is not.

    Raises InputError if `trace` cannot serve one of `policies`.
    """
    if policies is None:
        chosen, left_out = servable(trace)
    else:
        require_servable(trace, policies)
        chosen, left_out = dict(policies), {}
    return with_control(chosen), left_out


def with_control(policies: Mapping[str, StoppingPolicy]) -> dict[str, StoppingPolicy]:
    """`policies` and the short constant length that every rule should beat, unless it is among them."""
    return {**policies, **{spec: load_policy(spec) for spec in CONTROLS if spec not in policies}}


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
        if issubclass(cls, Combinator):
            left_out[kind] = "is made of other policies; name it with those"
            continue
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
