"""How much depends on a threshold: every policy that has one, replayed over its range."""

from collections.abc import Sequence
from dataclasses import dataclass

from stopkit.policy import StoppingPolicy
from stopkit.trace.comparison import Tick
from stopkit.trace.replay import replay
from stopkit.trace.report.study import Study

FIELD = "threshold"
STEPS = 11
WIDEST = 1.0
"""Thresholds are tried from 0 up to here, or up to their own bound."""


@dataclass(frozen=True)
class Sweep:
    """A policy over its threshold."""

    policy: str
    default: float
    """The threshold that it has in the report."""
    values: tuple[float, ...]
    speedups: tuple[tuple[float, ...], ...]
    """By costs, then by value."""

    def best(self, cost: int) -> float:
        """The threshold with the highest speed-up, on this very trace."""
        row = self.speedups[cost]
        return self.values[row.index(max(row))]


def swept(study: Study) -> list[str]:
    """The policies with a threshold, if their sequences learn apart from each other, which is fast to replay."""
    return [name for name, policy in study.policies.items() if _bound(policy) and not policy.couples_rows]


def sweeps(study: Study, tick: Tick = lambda name, part: None) -> list[Sweep]:
    """A sweep for each of `swept`, at the study's costs."""
    return [_sweep(study, name, tick) for name in swept(study)]


def _sweep(study: Study, name: str, tick: Tick) -> Sweep:
    policy = study.policies[name]
    default = float(getattr(policy, FIELD))
    top = _bound(policy)
    values = sorted({*(round(top * step / (STEPS - 1), 6) for step in range(STEPS)), default})
    found: list[Sequence[float]] = []
    for value in values:
        if value == default:
            found.append(study.speedups(name))
        else:
            changed = policy.model_copy(update={FIELD: value})
            found.append([one.speedup for one in replay(study.trace, changed, study.costs)])
    tick(f"{name}'s {FIELD}", 1.0)
    return Sweep(name, default, tuple(values), tuple(zip(*found, strict=True)))


def _bound(policy: StoppingPolicy) -> float:
    """The largest threshold to try; 0 if the policy has none."""
    field = type(policy).model_fields.get(FIELD)
    if field is None or field.annotation is not float:
        return 0.0
    limits = [limit for rule in field.metadata if (limit := getattr(rule, "le", None)) is not None]
    return float(min([WIDEST, *limits]))
