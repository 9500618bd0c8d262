"""The best constant draft length for every batch size, from a recording of single sequences and a law of costs."""

from collections.abc import Sequence
from statistics import geometric_mean

from stopkit.costs import FixedCosts
from stopkit.spec import load_policy
from stopkit.trace.replay import priced, replay
from stopkit.trace.trace import Trace

LARGEST = 256
"""Sequences of the largest batch."""
Band = tuple[int, int, int]
"""The smallest and the largest batch size that a draft length is for, and the length."""


def bands(trace: Trace, costs: Sequence[FixedCosts], longest: int) -> list[Band]:
    """The draft length, of 0 … `longest` tokens, that is fastest with 1 … `LARGEST` sequences, in geometric mean.

    With one length for all, the rounds of a batch go in step, and what each sequence gains is what it gains alone: only
    the costs are others.
    """
    lengths = [load_policy({"kind": "static", "length": length}) for length in range(longest + 1)]
    alone = [replay(trace, policy, costs[:1])[0].stats for policy in lengths]
    found: list[Band] = []
    for size in range(1, LARGEST + 1):
        prices = [of_batch(cost, size) for cost in costs]
        speeds = [geometric_mean([priced(one, price).tokens_per_second for price in prices]) for one in alone]
        best = speeds.index(max(speeds))  # of equally good ones the shortest
        begins = found.pop()[0] if found and found[-1][2] == best else size
        found.append((begins, size, best))
    return found


def of_batch(costs: FixedCosts, size: int) -> FixedCosts:
    """The costs of a round of `size` sequences, by the law of the costs of one.

    A token beyond the first adds to a target forward what a token of a block adds, whichever sequence it is of, and the
    same share to a draft forward.
    """
    others = 1 + (size - 1) * costs.verify_cost
    return costs.model_copy(
        update={
            "draft_step": costs.draft_step * others,
            "verify": costs.verify * others,
            "verify_token": costs.verify_token * size,
            "first_step": None if costs.first_step is None else costs.first_step * others,
        }
    )
