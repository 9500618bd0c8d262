"""`goodput` and its acceptance model: what is tunable is read from the modules, the mechanism is written again."""

import math
import struct
from collections.abc import Sequence

from stopkit_policies import acceptance_model as model
from stopkit_policies import goodput as rule
from tests.policies.references.base import Block, Reading, Seconds, Seen, Told, less

Matrix = list[list[float]]
PLAIN = ("always", "logit", "agreement")
NEXT, OWN = range(2)
Lesson = tuple[list[float], bool]


def sigmoid(odds: float) -> float:
    return 1 / (1 + math.exp(-odds))


def logit(probability: float) -> float:
    inside = min(max(probability, model.EDGE), 1 - model.EDGE)
    return math.log(inside / (1 - inside))


def dot(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(one * other for one, other in zip(left, right, strict=True))


def identity(size: int, scale: float = 1.0) -> Matrix:
    return [[scale * (row == column) for column in range(size)] for row in range(size)]


def inverse(matrix: Matrix) -> Matrix:
    """By Gauss and Jordan; a positive definite matrix needs no pivoting."""
    size = len(matrix)
    both = [[*row, *unit] for row, unit in zip(matrix, identity(size), strict=True)]
    for turn in range(size):
        both[turn] = [value / both[turn][turn] for value in both[turn]]
        for row in range(size):
            if row != turn:
                factor = both[row][turn]
                both[row] = [value - factor * top for value, top in zip(both[row], both[turn], strict=True)]
    return [row[size:] for row in both]


def features(remembered: Sequence[float], **values: float) -> list[float]:
    return [*(values.get(name, 0.0) for name in PLAIN), *remembered]


def hashed(text: Sequence[int]) -> int:
    """A polynomial in 64 bits with a sign, of tokens counted from 1; the last one is the constant."""
    return signed(sum((token + 1) * model.MULTIPLIER**age for age, token in enumerate(reversed(text))))


def signed(whole: int) -> int:
    """What is left of it in 64 bits."""
    return (whole + 2**63) % 2**64 - 2**63


def half(value: float) -> float:
    """The nearest number of 16 bits."""
    return float(struct.unpack("e", struct.pack("e", value))[0])


class Goodput(Reading):
    carry_over = True
    learned = ("tokens", "time", "gain", "reach", "skipped", "wait", "weights", "optimistic", "information")

    def __init__(self) -> None:
        self.tokens, self.time = rule.FIRST_RATE * rule.FIRST_ROUNDS, rule.FIRST_ROUNDS
        self.gain, self.skipped, self.wait = rule.FIRST_GAIN, 0.0, rule.FIRST_WAIT
        self.reach, self.worth = [1.0] * rule.LONGEST, [0.0] * rule.LONGEST
        self.weights = [list(row) for row in model.PRIOR]
        self.size = len(model.PRIOR[NEXT])
        self.hope = [[0.0] * self.size for _ in (NEXT, OWN)]
        self.hope[NEXT][PLAIN.index("always")] = model.OPTIMISM
        unsure = [1 / math.sqrt(model.PRIOR_PRECISION)] * self.size
        self.optimistic = [self.hopeful(which, self.weights[which], unsure) for which in (NEXT, OWN)]
        self.powers = [signed(model.MULTIPLIER**age) for age in range(model.LENGTHS)]
        self.information = [identity(self.size, 0.0)] * 2
        self.survival, self.agreement, self.base = 1.0, 0.0, [0.0, 0.0]
        self.output = self.now = [0] * model.LENGTHS
        self.fates = [[0.0] * model.SLOTS for _ in (NEXT, OWN)]

    @property
    def pace(self) -> list[float]:
        return [self.tokens, self.time]

    @property
    def text(self) -> list[int]:
        return self.output[::-1]

    @property
    def here(self) -> list[int]:
        return self.now[::-1]

    def slots(self, text: Sequence[int]) -> list[int]:
        """Where the memory has the last 1, 2, … tokens of a text."""
        return [hashed(text[-length:]) % model.SLOTS for length in range(1, model.LENGTHS + 1)]

    def remembered(self, which: int, text: Sequence[int]) -> list[float]:
        return [self.fates[which][slot] for slot in self.slots(text)]

    def curiosity(self, text: Sequence[int]) -> float:
        """A text that came up before, and after which nothing was drawn."""
        known, tried = self.remembered(OWN, text)[-1], self.remembered(NEXT, text)[-1]
        return model.CURIOSITY * max(known - abs(tried), 0)

    def prepare(self, costs: Seconds, batch_size: int, told: Told) -> None:
        """A draft step and a column of the verification are paid once for all that reach it."""
        self.last = max(told.last_token, 0)
        token = self.tokens / self.time * (costs.draft_step + costs.verify_token) / costs.verify
        rows = max(batch_size, 1)
        self.worth = [token * rows / (1 + (rows - 1) * reach) for reach in self.reach]

    def plan(self, limit: int, costs: Seconds, batch_size: int) -> int:
        self.output = self.now = [*self.output[1:], self.last]
        always = features([0.0] * model.LENGTHS, always=1, agreement=self.agreement)
        self.base, self.survival = [dot(weights, always) for weights in self.optimistic], 1.0
        first = self.chance(NEXT, self.now)
        self.remember([(OWN, self.now, True)])
        block = self.tokens / self.time * costs.block / costs.verify
        willing = not less(first * (1 + max(self.gain, 0)), self.worth[0] + block)
        return limit if willing or not less(self.skipped, self.wait) else 0

    def extend(self, position: int, seen: Seen, token: int) -> bool:
        self.now = [*self.now[1:], token]
        self.survival *= self.chance(OWN, self.now, seen)
        worth = self.worth[min(position + 1, rule.LONGEST - 1)]
        return not less(self.survival * self.chance(NEXT, self.now, seen), worth)

    def chance(self, which: int, text: Sequence[int], seen: Seen | None = None) -> float:
        odds = dot(self.optimistic[which], self.shown(which, text, seen))
        return sigmoid(odds + self.curiosity(text) * (which == NEXT))

    def shown(self, which: int, text: Sequence[int], seen: Seen | None) -> list[float]:
        """What is known of the last token of `text`, which was drawn if something was `seen`."""
        known = seen and logit(min(seen.probabilities[text[-1]], seen.max_probability))
        return features(self.remembered(which, text), always=1, logit=known or 0.0, agreement=self.agreement)

    def remember(self, judged: Sequence[tuple[int, Sequence[int], bool]]) -> None:
        """What became of these texts, all by what was remembered before."""
        found = []
        for which, text, kept in judged:
            for slot in self.slots(text):
                old = self.fates[which][slot]
                found.append((which, slot, half(model.RECALL * ((1 if kept else -1) - old))))
        for which, slot, change in found:
            self.fates[which][slot] = half(self.fates[which][slot] + change)
        self.fates = [[max(-1.0, min(1.0, value)) for value in table] for table in self.fates]

    def learn(self, block: Block) -> bool:
        self.block = block
        return True

    def share(self, taught: Sequence[Reading], rows: Sequence[Reading]) -> None:
        """All sequences teach one model, together."""
        known = [row for row in taught if isinstance(row, Goodput)]
        self.measure([row.block for row in known])
        if any(row.block.drafted for row in known):
            self.step([lesson for row in known for lesson in row.lessons()])
        for row in known:
            row.go_on()
        for name in self.learned:
            for other in rows:
                setattr(other, name, getattr(self, name))

    def measure(self, blocks: Sequence[Block]) -> None:
        """The rate, what blocks gain once begun, how far they go, and when to try again."""
        costs, longest = blocks[0].costs, max(block.drafted for block in blocks)
        rate, step = self.tokens / self.time, (costs.draft_step + costs.verify_token) / costs.verify
        self.tokens = rule.MEMORY * self.tokens + sum(block.accepted + 1 for block in blocks) / len(blocks)
        self.time = rule.MEMORY * self.time + costs.round(longest) / costs.verify
        gains = [block.accepted - 1 - rate * step * (block.drafted - 1) for block in blocks if block.accepted]
        if gains:
            self.gain += rule.GAIN_SHARE * (sum(gains) / len(gains) - self.gain)
        if not longest:
            self.skipped += 1
            return
        shares = [sum(block.drafted > depth for block in blocks) / len(blocks) for depth in range(rule.LONGEST)]
        self.reach = [old + rule.REACH_SHARE * (new - old) for old, new in zip(self.reach, shares, strict=True)]
        tried = not less(self.skipped, self.wait)
        self.wait = min(self.wait * rule.PATIENCE, rule.LONGEST_WAIT) if tried else rule.FIRST_WAIT
        self.skipped = 0.0

    def lessons(self) -> list[list[Lesson]]:
        """Of every judged position: features and whether it was accepted; for *next* and for *own*."""
        found, text, before = [], self.output, None
        for position in range(self.judged):
            seen, accepted = self.block.seen[position], position < self.block.accepted
            following = self.shown(NEXT, text, before)
            text, before = [*text[1:], self.block.tokens[position]], seen
            found.append([(following, accepted), (self.shown(OWN, text, seen), accepted)])
        return found

    @property
    def judged(self) -> int:
        """Positions up to the first that was rejected."""
        return min(self.block.drafted, self.block.accepted + 1)

    def go_on(self) -> None:
        """This sequence's own: how often the target agreed, what became of its texts, and the text."""
        text, judged = self.output, []
        for position in range(self.judged):
            kept = position < self.block.accepted
            judged.append((NEXT, text, kept))
            text = [*text[1:], self.block.tokens[position]]
            judged.append((OWN, text, kept))
            self.output = text if kept else self.output
        if judged:
            agreed = 2 * self.block.accepted / self.judged - 1
            self.agreement += (1 - model.SMOOTHING**self.judged) * (agreed - self.agreement)
            self.remember(judged)

    def step(self, lessons: Sequence[Sequence[Lesson]]) -> None:
        """One Newton step of each regression; what was learned decays towards the prior."""
        memory = model.DECAY ** len(lessons)
        made = [self.stepped(which, [lesson[which] for lesson in lessons], memory) for which in (NEXT, OWN)]
        self.weights, self.optimistic, self.information = map(list, zip(*made, strict=True))

    def stepped(self, which: int, lessons: Sequence[Lesson], memory: float) -> tuple[list[float], list[float], Matrix]:
        weights, gradient = self.weights[which], [0.0] * self.size
        information = [[memory * old for old in row] for row in self.information[which]]
        for shown, accepted in lessons:
            chance = sigmoid(dot(weights, shown))
            curvature, missed = max(chance * (1 - chance), model.LEAST_CURVATURE), accepted - chance
            information = [
                [old + curvature * left * right for old, right in zip(row, shown, strict=True)]
                for row, left in zip(information, shown, strict=True)
            ]
            gradient = [old + missed * value for old, value in zip(gradient, shown, strict=True)]
        prior = identity(self.size, model.PRIOR_PRECISION)
        covariance = inverse([[*map(sum, zip(*rows, strict=True))] for rows in zip(information, prior, strict=True)])
        moved = [old + dot(row, gradient) for old, row in zip(weights, covariance, strict=True)]
        unsure = [math.sqrt(covariance[number][number]) for number in range(self.size)]
        return moved, self.hopeful(which, moved, unsure), information

    def hopeful(self, which: int, weights: Sequence[float], unsure: Sequence[float]) -> list[float]:
        """With hope added: so many standard deviations of each."""
        each = zip(weights, self.hope[which], unsure, strict=True)
        return [weight + hope * deviation for weight, hope, deviation in each]
