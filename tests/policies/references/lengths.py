"""Rules that choose a draft length before the round."""

import math
from collections.abc import Mapping, Sequence

from tests.policies.references.base import Block, Reading, Seconds, largest, less


class Static(Reading):
    def __init__(self, length: int = 5) -> None:
        self.cap = length

    def plan(self, limit: int, costs: Seconds, batch_size: int) -> int:
        return min(limit, self.cap)


class Heuristic(Reading):
    """The schedule of transformers' assisted generation."""

    learned = ("length",)

    def __init__(self, start: int = 5, increase: int = 2, decrease: int = 1, carry_over: bool = False) -> None:
        self.length, self.increase, self.decrease, self.carry_over = float(start), increase, decrease, carry_over

    def plan(self, limit: int, costs: Seconds, batch_size: int) -> int:
        return min(limit, math.floor(self.length))

    def learn(self, block: Block) -> bool:
        whole = block.accepted == block.drafted
        if block.drafted:
            self.length = self.length + self.increase if whole else max(1.0, self.length - self.decrease)
        return block.drafted > 0


class EmaLength(Reading):
    """SGLang's adaptive number of steps."""

    learned = ("ema", "rounds")

    def __init__(
        self,
        lengths: Sequence[int] = (1, 3, 5, 7),
        smoothing: float = 0.2,
        update_every: int = 5,
        warmup: int = 10,
        down: float = -0.25,
        up: float = 0.0,
        carry_over: bool = True,
    ) -> None:
        self.lengths, self.smoothing, self.update_every, self.warmup = sorted(lengths), smoothing, update_every, warmup
        self.down, self.up, self.carry_over = down, up, carry_over
        self.length = self.lengths[len(lengths) // 2]
        self.ema, self.rounds = float(self.length - 1), 0

    def plan(self, limit: int, costs: Seconds, batch_size: int) -> int:
        return min(limit, self.length)

    def learn(self, block: Block) -> bool:
        if self.length > 0 and block.drafted == 0:
            return False
        if self.length > 0:
            self.ema = (1 - self.smoothing) * self.ema + self.smoothing * block.accepted
        self.rounds += 1
        return True

    def settle(self) -> None:
        """As in the source: a step at a time, while the mark of the next one is passed."""
        since = self.rounds - self.warmup
        if since <= 0 or since % self.update_every:
            return
        index = self.lengths.index(self.length)
        if self.length == 0:
            self.length = self.lengths[min(index + 1, len(self.lengths) - 1)]
            if self.length > 0 and self.ema < 0:
                self.ema = self.length - 1.0
            return
        start = index
        while index > 0 and not less(self.mark_below(index), self.ema):
            index -= 1
        if index == start:
            while index < len(self.lengths) - 1 and less(self.lengths[index] - 0.5 + self.up, self.ema):
                index += 1
        self.length = self.lengths[index]

    def mark_below(self, index: int) -> float:
        """At or below it, the length at `index` gives way to the one before."""
        previous = self.lengths[index - 1]
        return (0.5 if previous == 0 else previous - 0.5) + self.down


class BatchTable(Reading):
    def __init__(self, table: Mapping[int, int] | None = None) -> None:
        self.table = {1: 3, 17: 2, 65: 0} if table is None else {int(size): cap for size, cap in table.items()}

    def plan(self, limit: int, costs: Seconds, batch_size: int) -> int:
        begun = [size for size in self.table if size <= batch_size]
        return min(limit, self.table[max(begun)]) if begun else 0


class BestLength(Reading):
    learned = ("judged", "accepted", "rounds")

    def __init__(
        self,
        max_draft: int = 16,
        decay: float = 0.95,
        prior: float = 0.7,
        prior_weight: float = 1.0,
        probe_every: int = 16,
        carry_over: bool = True,
    ) -> None:
        self.max_draft, self.decay, self.prior, self.prior_weight = max_draft, decay, prior, prior_weight
        self.probe_every, self.carry_over = probe_every, carry_over
        self.judged, self.accepted, self.rounds = [0.0] * max_draft, [0.0] * max_draft, 0

    def plan(self, limit: int, costs: Seconds, batch_size: int) -> int:
        survival, tokens, rates = 1.0, 1.0, [1.0]
        for position in range(self.max_draft):
            held, seen = self.accepted[position], self.judged[position]
            survival *= (held + self.prior_weight * self.prior) / (seen + self.prior_weight)
            tokens += survival
            rates.append(tokens * costs.verify / costs.round(position + 1))
        best = largest(rates)
        probing = (self.rounds + 1) % self.probe_every == 0
        return min(limit, self.max_draft, best + probing)

    def learn(self, block: Block) -> bool:
        self.rounds += 1
        for position in range(min(block.accepted + 1, block.drafted, self.max_draft)):
            self.judged[position] = self.judged[position] * self.decay + 1
            self.accepted[position] = self.accepted[position] * self.decay + (position < block.accepted)
        return True
