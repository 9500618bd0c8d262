"""What no policy can beat, and what none should fall behind: bounds on a trace, at given costs.

* hindsight: drafts exactly what will be accepted.
* clairvoyant: the marginal rule with the true acceptance probabilities. It drafts on while S·β ≥ ρ·(c + v), where β is
  that of the position to come, S the product of those before it in the block, c and v the times of a draft step and of
  a block token in verification, and ρ the rate with which it is fastest on this trace. It drafts nothing where the
  whole block would gain less than ρ·b, b being the time that a block takes whatever its length.
* best_static: the constant draft length that is the best on this trace.
* autoregressive: no drafting.

docs/explanation/bounds.md derives the rule and says what each bound means.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from stopkit.costs import FixedCosts
from stopkit.statistics import Statistics
from stopkit.trace.replay import Replay, priced
from stopkit.trace.trace import Trace

RATES = 33
"""Values of ρ that are tried, from autoregressive decoding's to hindsight's."""


def bounds(trace: Trace, costs: FixedCosts) -> dict[str, Replay]:
    """The four bounds by name."""
    return {name: bound(trace, costs) for name, bound in BOUNDS.items()}


def hindsight(trace: Trace, costs: FixedCosts) -> Replay:
    """Drafts exactly what will be accepted."""
    return follow(trace, trace.run, costs)


def autoregressive(trace: Trace, costs: FixedCosts) -> Replay:
    """Drafts nothing."""
    return follow(trace, torch.zeros_like(trace.run), costs)


def best_static(trace: Trace, costs: FixedCosts) -> Replay:
    """The best constant draft length, 0 included."""
    lengths = (trace.drafted.clamp(max=length) for length in range(trace.metadata.max_draft + 1))
    return max((follow(trace, length, costs) for length in lengths), key=lambda replay: replay.speedup)


def clairvoyant(trace: Trace, costs: FixedCosts) -> Replay:
    """The marginal rule with the true probabilities, at the best of many rates ρ."""
    worth = trace.columns["beta"].double().cumprod(1)
    position = torch.arange(worth.shape[1])
    best, highest = autoregressive(trace, costs), hindsight(trace, costs).stats.tokens_per_second
    for rate in torch.linspace(best.stats.tokens_per_second, highest, RATES).tolist():
        gain = worth - rate * costs.token
        wanted = ((gain >= 0) & (position < trace.drafted.unsqueeze(1))).cumprod(1)
        pays = (gain * wanted).sum(1) >= rate * costs.block
        best = max(best, follow(trace, wanted.sum(1) * pays, costs), key=lambda replay: replay.speedup)
    return best


def follow(trace: Trace, length: Tensor, costs: FixedCosts) -> Replay:
    """The rounds of a rule that drafts `length` [T] tokens at each start, at most the rollout's."""
    accepted = torch.minimum(length, trace.run)
    visited = torch.zeros_like(length, dtype=torch.bool)
    at, end = trace.first[:-1], trace.first[1:]
    while len(at):
        visited[at] = True
        at = at + accepted[at] + 1
        at, end = at[at < end], end[at < end]
    sequence = torch.arange(len(trace.sequences)).repeat_interleave(trace.lengths)
    counts = [Statistics() for _ in trace.sequences]
    rounds = torch.column_stack([sequence, length, accepted])[visited].tolist()
    for row, drafted, kept in rounds:
        counts[row].count_block(drafted, kept)
    for stats, tokens in zip(counts, trace.lengths.tolist(), strict=True):
        stats.tokens, stats.draft_forwards, stats.target_forwards = tokens, stats.drafted, stats.rounds
    return Replay(costs, tuple(priced(stats, costs) for stats in counts))


BOUNDS: dict[str, Callable[[Trace, FixedCosts], Replay]] = {
    "hindsight": hindsight,
    "clairvoyant": clairvoyant,
    "best_static": best_static,
    "autoregressive": autoregressive,
}
