"""What a report is about: every policy replayed at every pair of costs, and the bounds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from stopkit.costs import FixedCosts
from stopkit.intervals import Standing
from stopkit.policy import StoppingPolicy
from stopkit.trace.bounds import BOUNDS
from stopkit.trace.comparison import Tick, TraceComparison, standings_of
from stopkit.trace.replay import Replay
from stopkit.trace.trace import Trace

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
        tick: Tick = lambda name, part: None,
    ) -> "Study":
        """Replay everything. Raises InputError if a policy reads what the trace does not hold."""
        replays = dict(TraceComparison(trace, policies, costs).replays(tick))
        limits = {name: replays.pop(name) for name in BOUNDS}
        return cls(trace, policies, costs, replays, limits)

    @cached_property
    def reference(self) -> int:
        """Index of the pair of costs for sections that show one."""
        distances = [abs(math.log((cost.draft_cost + 1e-9) / REFERENCE)) for cost in self.costs]
        return distances.index(min(distances))

    @cached_property
    def ranking(self) -> list[str]:
        """Names of the policies, the best first: by the geometric mean of their speed-ups."""
        return sorted(self.policies, key=lambda name: -geometric_mean(self.speedups(name)))

    @cached_property
    def standings(self) -> list[dict[str, Standing]]:
        """Where every policy and every bound stands, by name, for each pair of costs."""
        everyone = {**self.replays, **self.bounds}
        return [
            standings_of({name: replays[at] for name, replays in everyone.items()}) for at in range(len(self.costs))
        ]

    def speedups(self, name: str) -> list[float]:
        """The speed-ups of a policy or a bound, one for each pair of costs."""
        replays = self.replays[name] if name in self.replays else self.bounds[name]
        return [replay.speedup for replay in replays]

    def reached(self, name: str) -> float:
        """Share of the clairvoyant bound, as a geometric mean over the costs."""
        pairs = zip(self.speedups(name), self.speedups(CLAIRVOYANT), strict=True)
        return geometric_mean([ours / most for ours, most in pairs])

    def verify_costs(self) -> dict[float, list[int]]:
        """Indices of the pairs of costs, by what a block token adds to a verification, in target-step times."""
        groups: dict[float, list[int]] = {}
        for index, cost in enumerate(self.costs):
            groups.setdefault(cost.verify_cost, []).append(index)
        return groups


def geometric_mean(values: Sequence[float]) -> float:
    """The geometric mean of `values`, which are all above 0."""
    return math.exp(sum(map(math.log, values)) / len(values))
