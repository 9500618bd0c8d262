"""The costs that a trace is replayed at: given as numbers, or as the recording machine measured them."""

import math
from collections.abc import Iterable, Sequence
from statistics import fmean, linear_regression

from stopkit.costs import FixedCosts
from stopkit.errors import InputError, shown
from stopkit.trace.format import Metadata

DRAFT_COSTS = (0.02, 0.05, 0.1, 0.2, 0.4)
VERIFY_COSTS = (0.02,)
"""What is taken if nothing is said; in target-step times, a draft step and a token to verify."""
Numbers = float | Sequence[float]


def asked_costs(
    metadata: Metadata, path: str, draft: Numbers | None, verify: Numbers | None, measured: bool
) -> list[FixedCosts]:
    """Every pair of the costs that were asked for, or the measured ones. Raises InputError for what cannot be."""
    if not measured:
        return cost_grid(_costs("draft_cost", draft, DRAFT_COSTS), _costs("verify_cost", verify, VERIFY_COSTS))
    if draft is not None or verify is not None:
        raise InputError("measured_costs: are asked for beside draft_cost or verify_cost; give one or the others.")
    return [measured_costs(metadata, path)]


def _costs(name: str, given: Numbers | None, otherwise: Sequence[float]) -> Sequence[float]:
    costs = otherwise if given is None else [given] if isinstance(given, (int, float)) else list(given)
    for cost in costs:
        if isinstance(cost, bool) or not isinstance(cost, (int, float)) or not (math.isfinite(cost) and cost >= 0):
            raise InputError(f"{name}: {shown(cost)} is not a finite number of at least 0.")
    if not costs:
        raise InputError(f"{name}: is empty; give at least one cost.")
    return costs


def cost_grid(draft: Iterable[float], verify: Iterable[float]) -> list[FixedCosts]:
    """Every pair of costs, in target-step times: the unit is the verification of an empty block."""
    draft_costs = list(dict.fromkeys(draft))
    return [
        FixedCosts(draft_step=step, verify=1.0, verify_token=token)
        for token in dict.fromkeys(verify)
        for step in draft_costs
    ]


def measured_costs(metadata: Metadata, path: str) -> FixedCosts:
    """What the recording machine took, seconds, as the cost model of policies.

    The target step is the time of an empty block; the others are the nearest line over their length by least squares,
    which may begin above it. Policies and bounds are charged by one and the same model, so that no policy can gain from
    what it leaves out. Raises InputError if nothing was measured.
    """
    if metadata.timings is None:
        raise InputError(f"{path}: holds no measured times; give --draft-cost and --verify-cost.")
    step, (empty, *blocks) = metadata.timings.draft_step, metadata.timings.verify
    lengths = range(1, len(blocks) + 1)
    slope = max(0.0, linear_regression(lengths, blocks).slope) if len(blocks) > 1 else 0.0
    above = fmean(blocks) - slope * fmean(lengths) - empty if blocks else 0.0
    return FixedCosts(draft_step=step, verify=empty, verify_token=slope, verify_block=max(0.0, above))


def misfit(metadata: Metadata, costs: FixedCosts) -> float:
    """How far the model is from the measured verification times at most, as a share of the time."""
    times = metadata.timings.verify if metadata.timings else ()
    return max(
        (abs(costs.verification(length) - time) / time for length, time in enumerate(times)),
        default=0.0,
    )
