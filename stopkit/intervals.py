"""How sure a speed-up is: bootstrap intervals over sequences, paired for policies that met the same ones.

A resample draws as many sequences as there are, with replacement, and the same ones for every policy. What is hard in a
sequence is hard for all, so the ratio of two policies is surer than each of them.
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

RESAMPLES = 2000
LEVEL = 0.95
"""The share of resamples that an interval holds."""
Interval = tuple[float, float]


class Work(NamedTuple):
    """What a policy did on every sequence, or batch of them, in every pass over them: [sequences, passes] each."""

    tokens: Tensor
    seconds: Tensor


class Standing(NamedTuple):
    """Where a policy stands among others that met the same sequences; intervals are None if there was only one."""

    interval: Interval | None
    """Of its speed-up."""
    of_best: float | None
    """Its speed-up as a share of the best rival's; None without rivals."""
    of_best_interval: Interval | None
    like_best: bool
    """Whether it cannot be told from the best."""

    def as_row(self) -> dict[str, Any]:
        """The fields of a row in a table or a file."""
        return {
            "speedup_interval": list(self.interval) if self.interval else None,
            "of_best": self.of_best,
            "of_best_interval": list(self.of_best_interval) if self.of_best_interval else None,
            "like_best": self.like_best,
        }


def standings(
    speedups: Mapping[str, float],
    work: Mapping[str, Work],
    baseline: Work | float,
    rivals: Collection[str],
) -> dict[str, Standing]:
    """Where each of `speedups` stands, by name. The best is the fastest of `rivals`.

    A speed-up is taken pass by pass against what the `baseline` did, or against its tokens per second; over several
    passes it is their median.
    """
    best = max(rivals, key=lambda name: speedups[name], default=None)
    several = any(len(done.tokens) > 1 for done in work.values())
    drawn = {name: resampled(done, baseline) for name, done in work.items()} if several else {}
    return {name: _standing(name, best, speedups, drawn) for name in speedups}


def resampled(work: Work, baseline: Work | float) -> Tensor:
    """The speed-up in every resample, [RESAMPLES], in the same order for all work on the same sequences."""
    often = _how_often(len(work.tokens))
    against = baseline if isinstance(baseline, float) else _rates(often, baseline)
    return (_rates(often, work) / against).quantile(0.5, dim=1)


def interval(drawn: Tensor) -> Interval:
    """What LEVEL of the resamples lie in."""
    low, high = drawn.quantile(torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=drawn.dtype)).tolist()
    return low, high


def _rates(often: Tensor, work: Work) -> Tensor:
    """Tokens per second in every resample and pass."""
    return (often @ work.tokens) / (often @ work.seconds)


def _how_often(sequences: int) -> Tensor:
    """How often each sequence is in every resample; the same whenever it is asked for so many."""
    chance = torch.Generator().manual_seed(sequences)
    places = torch.randint(sequences, (RESAMPLES, sequences), generator=chance)
    return torch.zeros(RESAMPLES, sequences, dtype=torch.float64).scatter_add(
        1, places, torch.ones_like(places, dtype=torch.float64)
    )


def _standing(name: str, best: str | None, speedups: Mapping[str, float], drawn: Mapping[str, Tensor]) -> Standing:
    own = interval(drawn[name]) if drawn else None
    if best is None:
        return Standing(own, None, None, False)
    ratio = interval(drawn[name] / drawn[best]) if drawn else None
    like = name == best or (ratio is not None and ratio[0] <= 1 <= ratio[1])
    return Standing(own, speedups[name] / speedups[best], ratio, like)
