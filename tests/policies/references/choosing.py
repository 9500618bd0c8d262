"""Policies made of policies."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import reject

from tests.policies.references.base import NEAR, Block, Reading, Seconds, Seen, largest

GOLDEN = (1 + math.sqrt(5)) / 2


class SideBySide(Reading):
    """Members that decide each for itself; one that has stopped stays stopped for the round."""

    def __init__(self, members: Sequence[Mapping[str, Any]]) -> None:
        self.members = [Reading.of(dict(member)) for member in members]
        self.wants, self.cap, self.lengths = ([0] * len(members) for _ in range(3))

    def combined(self, answers: Sequence[int]) -> int:
        raise NotImplementedError

    def plan(self, limit: int, costs: Seconds, batch_size: int) -> int:
        self.cap = [min(limit, member.plan(limit, costs, batch_size)) for member in self.members]
        self.wants = [cap > 0 for cap in self.cap]
        self.lengths = list(self.cap)
        return self.combined(self.cap)

    def admit(self, position: int, seen: Seen) -> bool:
        for index, member in enumerate(self.members):
            if self.wants[index]:
                self.wants[index] = member.admit(position, seen)
                if not self.wants[index]:
                    self.lengths[index] = position
        return bool(self.combined(self.wants))

    def extend(self, position: int, seen: Seen, token: int) -> bool:
        for index, member in enumerate(self.members):
            if self.wants[index]:
                self.wants[index] = member.extend(position, seen, token) and position + 1 < self.cap[index]
                if not self.wants[index]:
                    self.lengths[index] = position + 1
        return bool(self.combined(self.wants))

    def part(self, index: int, block: Block) -> Block | None:
        return self.own(index, block)

    def own(self, index: int, block: Block) -> Block:
        """The round as it would have been under that member alone, if it is known."""
        return block if self.wants[index] else block.first(self.lengths[index])


class FirstOf(SideBySide):
    def __init__(self, policies: Sequence[Mapping[str, Any]] = ({"kind": "drawn_probability"}, {"kind": "heuristic"})):
        super().__init__(policies)

    def combined(self, answers: Sequence[int]) -> int:
        return min(answers)


class AllOf(SideBySide):
    def __init__(
        self, policies: Sequence[Mapping[str, Any]] = ({"kind": "static", "length": 2}, {"kind": "max_probability"})
    ):
        super().__init__(policies)

    def combined(self, answers: Sequence[int]) -> int:
        return max(answers)


class Warmup(SideBySide):
    learned = ("round",)

    def __init__(
        self, first: Mapping[str, Any], then: Mapping[str, Any], rounds: int = 8, carry_over: bool = False
    ) -> None:
        super().__init__([first, then])
        self.rounds, self.carry_over, self.round = rounds, carry_over, 0

    def combined(self, answers: Sequence[int]) -> int:
        return answers[0 if self.round < self.rounds else 1]

    def learn(self, block: Block) -> bool:
        self.round += 1
        return True


class Capped(Reading):
    def __init__(self, policy: Mapping[str, Any] | None = None, max_draft: int = 3) -> None:
        self.members = [Reading.of(dict(policy or {"kind": "adaedl"}))]
        self.most = max_draft

    def plan(self, limit: int, costs: Seconds, batch_size: int) -> int:
        return self.members[0].plan(min(limit, self.most), costs, batch_size)

    def admit(self, position: int, seen: Seen) -> bool:
        return self.members[0].admit(position, seen)

    def extend(self, position: int, seen: Seen, token: int) -> bool:
        return self.members[0].extend(position, seen, token)


class Guard(Reading):
    """A purse of tokens that blocks are paid from; it holds half of the loss that is allowed over the window."""

    learned = ("purse",)

    def __init__(
        self,
        policy: Mapping[str, Any] | None = None,
        floor: float = 0.97,
        window: float = 256,
        carry_over: bool = True,
    ) -> None:
        self.members = [Reading.of(dict(policy or {"kind": "static"}))]
        self.spare, self.carry_over = (1 - floor) / 2, carry_over
        self.most = self.purse = self.spare * window
        self.cap = 0

    def plan(self, limit: int, costs: Seconds, batch_size: int) -> int:
        token, block = ((costs.draft_step + costs.verify_token) / costs.verify, costs.verify_block / costs.verify)
        length = 0
        while length < limit and (length + 1) * token + block <= self.purse:
            length += 1
        if any(abs(tokens * token + block - self.purse) < NEAR for tokens in range(limit + 2)):
            reject()
        if token == 0 and block > self.purse:
            length = 0
        self.cap = min(length, self.members[0].plan(length, costs, batch_size))
        return self.cap

    def admit(self, position: int, seen: Seen) -> bool:
        return self.members[0].admit(position, seen)

    def extend(self, position: int, seen: Seen, token: int) -> bool:
        return self.members[0].extend(position, seen, token)

    def learn(self, block: Block) -> bool:
        gain = self.spare
        if self.cap:
            least = block.costs.round(block.drafted)
            time = sorted([least, block.seconds, least + block.costs.draft_step])[1]
            gain = block.accepted + 1 - time / block.costs.verify
        self.purse = min(self.most, self.purse + gain)
        return True


class PerPosition(Reading):
    """Each member is asked at its own positions and sees no others; all learn from the whole round."""

    def __init__(self, policies: Mapping[Any, Mapping[str, Any]]) -> None:
        self.begins = sorted(map(int, policies))
        of = {int(begin): member for begin, member in policies.items()}
        self.members = [Reading.of(dict(of[begin])) for begin in self.begins]

    def owner(self, position: int) -> int:
        """Index of the member that decides on `position`."""
        return max([0, *(index for index, begin in enumerate(self.begins) if begin <= position)])

    def plan(self, limit: int, costs: Seconds, batch_size: int) -> int:
        caps = [member.plan(limit, costs, batch_size) for member in self.members]
        length = 0
        while length < limit and length < caps[self.owner(length)]:
            length += 1
        return length

    def admit(self, position: int, seen: Seen) -> bool:
        return self.members[self.owner(position)].admit(position, seen)

    def extend(self, position: int, seen: Seen, token: int) -> bool:
        return self.members[self.owner(position)].extend(position, seen, token)


class Bandit(SideBySide):
    """One of several policies a round, by UCB1 on tokens per second or by Hedge on what each would have gained."""

    learned = ("rounds", "tokens", "seconds", "gain")

    def __init__(
        self,
        policies: Sequence[Mapping[str, Any]] = (
            {"kind": "max_probability"},
            {"kind": "static"},
            {"kind": "static", "length": 0},
        ),
        algorithm: str = "ucb1",
        exploration: float = 0.5,
        learning_rate: float = 0.1,
        carry_over: bool = True,
    ) -> None:
        super().__init__(policies)
        self.algorithm, self.exploration, self.learning_rate = algorithm, exploration, learning_rate
        self.carry_over, self.chosen = carry_over, 0
        self.rounds, self.tokens, self.seconds, self.gain = ([0.0] * len(policies) for _ in range(4))

    def combined(self, answers: Sequence[int]) -> int:
        return answers[self.chosen]

    def plan(self, limit: int, costs: Seconds, batch_size: int) -> int:
        self.chosen = self.ucb1() if self.algorithm == "ucb1" else self.hedge()
        self.limit = limit
        return super().plan(limit, costs, batch_size)

    def ucb1(self) -> int:
        if 0 in self.rounds:
            return self.rounds.index(0)
        rates = [tokens / seconds for tokens, seconds in zip(self.tokens, self.seconds, strict=True)]
        total = math.log(sum(self.rounds))
        bonuses = [self.exploration * math.sqrt(2 * total / rounds) for rounds in self.rounds]
        return largest([rate / max(rates) + bonus for rate, bonus in zip(rates, bonuses, strict=True)])

    def hedge(self) -> int:
        weights = [math.exp(self.learning_rate * (gain - max(self.gain))) for gain in self.gain]
        quantile = sum(self.rounds) * GOLDEN % 1
        below = 0.0
        for index, weight in enumerate(weights):
            below += weight / sum(weights)
            if abs(below - quantile) < 1e-9:
                reject()
            if quantile < below:
                return index
        return len(weights) - 1

    def known(self, index: int) -> bool:
        """Whether it is known how the round would have gone under the member at `index`."""
        return index == self.chosen or (self.algorithm == "hedge" and not self.wants[index])

    def learn(self, block: Block) -> bool:
        if not self.limit:
            return False
        if self.algorithm == "hedge":
            decided = self.worth(block)
            for index in filter(self.known, range(len(self.members))):
                self.gain[index] += self.worth(self.own(index, block)) - decided
        self.rounds[self.chosen] += 1
        self.tokens[self.chosen] += block.accepted + 1
        self.seconds[self.chosen] += block.seconds
        return True

    def worth(self, block: Block) -> float:
        """tokens − ρ·seconds; ρ of the rounds before, at first 0. Only differences between members matter."""
        rate = sum(self.tokens) / sum(self.seconds) if sum(self.seconds) else 0.0
        return block.accepted + 1 - rate * block.costs.round(block.drafted)

    def part(self, index: int, block: Block) -> Block | None:
        return super().part(index, block) if self.known(index) else None
