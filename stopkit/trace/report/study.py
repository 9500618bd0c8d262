"""What a report is about: every policy replayed at every pair of costs, and the bounds."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import get_args

from pydantic.fields import FieldInfo

from stopkit.config import load_policy
from stopkit.costs import FixedCosts
from stopkit.plugins import registry
from stopkit.policy import StoppingPolicy
from stopkit.trace.bounds import BOUNDS
from stopkit.trace.replay import Replay, replay
from stopkit.trace.trace import Trace

Tick = Callable[[str], None]
"""Called with a name once that is done."""

CLAIRVOYANT = "clairvoyant"
REFERENCE = 0.1
"""Sections that show one pair of costs show the draft cost that is closest to this."""


@dataclass(frozen=True)
class Study:
    """Replays of `policies` (by the name a user gave) and bounds of `trace`, each at `costs`, in that order."""

    trace: Trace
    policies: Mapping[str, StoppingPolicy]
    costs: Sequence[FixedCosts]
    replays: Mapping[str, Sequence[Replay]]
    bounds: Mapping[str, Sequence[Replay]]

    @classmethod
    def of(
        cls,
        trace: Trace,
        policies: Mapping[str, StoppingPolicy],
        costs: Sequence[FixedCosts],
        tick: Tick = lambda name: None,
    ) -> "Study":
        """Replay everything. Raises InputError if a policy reads what the trace does not hold."""
        found = {}
        for name, policy in policies.items():
            found[name] = replay(trace, policy, costs)
            tick(name)
        limits = {name: [bound(trace, cost) for cost in costs] for name, bound in BOUNDS.items()}
        tick("bounds")
        return cls(trace, policies, costs, found, limits)

    @cached_property
    def reference(self) -> int:
        """Index of the pair of costs for sections that show one."""
        distances = [abs(math.log((cost.draft_step / cost.verify + 1e-9) / REFERENCE)) for cost in self.costs]
        return distances.index(min(distances))

    @cached_property
    def ranking(self) -> list[str]:
        """Names of the policies, the best first: by the geometric mean of their speed-ups."""
        return sorted(self.policies, key=lambda name: -geometric_mean(self.speedups(name)))

    def speedups(self, name: str) -> list[float]:
        """Of a policy or a bound, by costs."""
        found = self.replays[name] if name in self.replays else self.bounds[name]
        return [one.speedup for one in found]

    def reached(self, name: str) -> float:
        """Share of the clairvoyant bound, as a geometric mean over the costs."""
        pairs = zip(self.speedups(name), self.speedups(CLAIRVOYANT), strict=True)
        return geometric_mean([ours / most for ours, most in pairs])

    def verify_costs(self) -> dict[float, list[int]]:
        """Indices of the pairs of costs, by what a block token adds to a verification, in target-step times."""
        groups: dict[float, list[int]] = {}
        for index, cost in enumerate(self.costs):
            groups.setdefault(cost.verify_token / cost.verify, []).append(index)
        return groups


def usual_policies() -> dict[str, StoppingPolicy]:
    """Every registered policy that is itself with its default fields alone: one that lacks a file is left out."""
    return {kind: load_policy(kind) for kind, cls in registry().policies.items() if not any(map(_lacks, _fields(cls)))}


def _fields(cls: type[StoppingPolicy]) -> list[FieldInfo]:
    return list(cls.model_fields.values())


def _lacks(field: FieldInfo) -> bool:
    return field.is_required() or (field.default is None and Path in get_args(field.annotation))


def geometric_mean(values: Sequence[float]) -> float:
    """Of positive values."""
    return math.exp(sum(map(math.log, values)) / len(values))
