"""Rules that choose a draft length before the round."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

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
    def __init__(self, table: Mapping[Any, Any] | None = None) -> None:
        self.table = {1: 3, 17: 2, 65: 0} if table is None else table

    def plan(self, limit: int, costs: Seconds, batch_size: int) -> int:
        entry = begun(self.table, batch_size)
        return min(limit, begun(entry, max(0, self.told.length)) if isinstance(entry, Mapping) else entry)


def begun(table: Mapping[Any, Any], at: int) -> Any:
    """The last entry that begins at `at` or before; 0 if there is none."""
    begins = [int(first) for first in table if int(first) <= at]
    return {int(first): entry for first, entry in table.items()}[max(begins)] if begins else 0


class Staircase(Reading):
    """A step after so many rounds in a row that agree; the count is positive for successes, negative for failures."""

    learned = ("length", "streak")

    def __init__(
        self,
        start: int = 3,
        in_a_row: int = 11,
        bias: int = 0,
        min_draft: int = 1,
        max_draft: int = 16,
        carry_over: bool = False,
    ) -> None:
        self.needed, self.bias, self.least, self.most = in_a_row, bias, min_draft, max_draft
        self.carry_over, self.streak = carry_over, 0.0
        self.length = float(min(max_draft, max(min_draft, start)))

    def plan(self, limit: int, costs: Seconds, batch_size: int) -> int:
        return min(limit, math.floor(self.length))

    def learn(self, block: Block) -> bool:
        if not block.drafted:
            return False
        rejected = block.drafted - block.accepted
        if rejected <= self.bias:
            self.streak = self.streak + 1 if self.streak > 0 else 1
        else:
            self.streak = self.streak - 1 if self.streak < 0 else -1
        if abs(self.streak) >= self.needed:
            self.length = min(self.most, max(self.least, self.length + math.copysign(1, self.streak)))
            self.streak = 0
        return True


class EntropyGate(Reading):
    def __init__(
        self, length: int = 5, smoothing: float = 0.35, low: float = math.log(2), high: float = 2 * math.log(2)
    ) -> None:
        self.cap, self.smoothing, self.low, self.high = length, smoothing, low, high
        self.smoothed, self.open = -1.0, True

    def plan(self, limit: int, costs: Seconds, batch_size: int) -> int:
        told = self.told.entropy
        if not math.isnan(told):
            fresh = self.smoothed < 0
            self.smoothed = told if fresh else (1 - self.smoothing) * self.smoothed + self.smoothing * told
        if self.open and less(self.high, self.smoothed):
            self.open = False
        elif not self.open and less(self.smoothed, self.low):
            self.open = True
        return min(limit, self.cap) if self.open else 0


class RatioUcb(Reading):
    learned = ("rounds", "tokens", "seconds")

    def __init__(
        self, max_draft: int = 8, exploration: float = 0.1, overhead: float = 0.0, carry_over: bool = True
    ) -> None:
        self.exploration, self.overhead, self.carry_over = exploration, overhead, carry_over
        self.rounds, self.tokens, self.seconds = ([0.0] * max_draft for _ in range(3))

    def plan(self, limit: int, costs: Seconds, batch_size: int) -> int:
        total = sum(self.rounds)
        bounds = []
        for length, (count, tokens, seconds) in enumerate(
            zip(self.rounds, self.tokens, self.seconds, strict=True), start=1
        ):
            if not count:
                return min(limit, length)
            mean = tokens / count + self.exploration * length * math.sqrt(2 * math.log(max(1.0, total)) / count)
            bounds.append(mean / (seconds / count))
        return min(limit, 1 + largest(bounds))

    def learn(self, block: Block) -> bool:
        at = block.drafted - 1
        if not 0 <= at < len(self.rounds):
            return False
        self.rounds[at] += 1
        self.tokens[at] += block.accepted + 1
        self.seconds[at] += block.seconds + self.overhead * block.costs.verify
        return True


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
