"""The costs that a trace is replayed at: given as numbers, or as the recording machine measured them."""

from collections.abc import Iterable

from stopkit.costs import FixedCosts
from stopkit.errors import InputError
from stopkit.trace.schema import Metadata

DRAFT_COSTS = (0.02, 0.05, 0.1, 0.2, 0.4)
VERIFY_COSTS = (0.02,)
"""What is taken if nothing is said; in target-step times, a draft step and a token to verify."""


def cost_grid(draft: Iterable[float], verify: Iterable[float]) -> list[FixedCosts]:
    """Every pair of costs, in target-step times: the unit is the verification of an empty block."""
    draft_costs = list(dict.fromkeys(draft))
    return [
        FixedCosts(draft_step=step, verify=1.0, verify_token=token)
        for token in dict.fromkeys(verify)
        for step in draft_costs
    ]


def measured_costs(metadata: Metadata, path: str) -> FixedCosts:
    """What the recording machine took, seconds, as the cost model of policies: a line over block length.

    The line goes through the time of the empty block, the target step, and is the nearest to the other times by least
    squares. Policies and bounds are charged by one and the same line, so that no policy can gain from what the line
    leaves out. Raises InputError if nothing was measured.
    """
    if metadata.timings is None:
        raise InputError(f"{path}: holds no measured times; give --draft-cost and --verify-cost.")
    step, times = metadata.timings.draft_step, metadata.timings.verify
    squares = sum(length**2 for length in range(len(times)))
    slope = sum(length * (time - times[0]) for length, time in enumerate(times)) / squares if squares else 0.0
    return FixedCosts(draft_step=step, verify=times[0], verify_token=max(0.0, slope))


def misfit(metadata: Metadata, costs: FixedCosts) -> float:
    """How far the line is from the measured verification times at most, as a share of the time."""
    times = metadata.timings.verify if metadata.timings else ()
    return max(
        (abs(costs.verify + costs.verify_token * length - time) / time for length, time in enumerate(times)),
        default=0.0,
    )
