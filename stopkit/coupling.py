"""How draft tokens and the target's tokens are drawn together: two couplings, both with exactly the target's law.

* maximal (Leviathan et al., arXiv 2211.17192): a draft token is drawn from q and kept as often as can be. What is
  drafted decides which random numbers are used, so the text depends on the policy.
* invariant (Daliri et al., arXiv 2408.07978): for every place of the output there is noise of its own, and both models
  take the token that it favours: the smallest E / p, with E exponential. The target's token at a place depends on the
  text before it and on the noise, so the text is a function of prompt and seed, whatever drafts and however much.
  A draft token is kept where it is the target's, which is less often than could be.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from stopkit.random import RandomSource
from stopkit.verification import next_distribution, survival


class Coupling(Protocol):
    """Draws the tokens of a round."""

    def __init__(self, random: RandomSource) -> None: ...

    def draft(self, q: Tensor, column: int, places: Sequence[int], rows: Tensor) -> Tensor:
        """A draft token per row, [B] long, from `q` [B, V], for that `column` of the block; `rows` (bool [B]) count.

        `places` is where in each row's output its block begins.
        """

    def verify(
        self, p: Tensor, q: Tensor, block: Tensor, drafted: Tensor, places: Sequence[int], rows: Tensor
    ) -> tuple[Tensor, Tensor]:
        """How many of the `drafted` [B] tokens of `block` [B, K] are kept, and the token that follows them: [B] each.

        p and q are [B, K + 1, V], q zero past what was drafted.
        """


class Maximal:
    """Keeps draft tokens as often as can be."""

    def __init__(self, random: RandomSource) -> None:
        self.random = random

    def draft(self, q: Tensor, column: int, places: Sequence[int], rows: Tensor) -> Tensor:
        return self.random.categorical(q, rows)

    def verify(
        self, p: Tensor, q: Tensor, block: Tensor, drafted: Tensor, places: Sequence[int], rows: Tensor
    ) -> tuple[Tensor, Tensor]:
        accepted = self.random.run_length(survival(p, q, block), drafted > 0)
        return accepted, self.random.categorical(next_distribution(p, q, accepted), rows)


class Invariant:
    """Lets the noise of a place choose, for draft and target alike."""

    def __init__(self, random: RandomSource) -> None:
        self.random = random

    def draft(self, q: Tensor, column: int, places: Sequence[int], rows: Tensor) -> Tensor:
        return self.random.race(q.unsqueeze(1), places, rows, first=column)[:, 0]

    def verify(
        self, p: Tensor, q: Tensor, block: Tensor, drafted: Tensor, places: Sequence[int], rows: Tensor
    ) -> tuple[Tensor, Tensor]:
        own = self.random.race(p, places, rows)
        kept = (own[:, :-1] == block) & (torch.arange(block.shape[1], device=block.device) < drafted.unsqueeze(1))
        accepted = kept.long().cumprod(1).sum(1)
        return accepted, own.gather(1, accepted.unsqueeze(1)).squeeze(1)


COUPLINGS: dict[str, type[Coupling]] = {"maximal": Maximal, "invariant": Invariant}
"""The couplings by the name that users choose them by."""
