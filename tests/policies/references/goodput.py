"""`goodput` and its acceptance model: what is tunable is read from the modules, the mechanism is written again."""

import math
import struct
from collections.abc import Sequence

from stopkit_policies import acceptance_model as model
from stopkit_policies import goodput as rule
from tests.policies.references.base import Block, Reading, Seconds, Seen, less

Matrix = list[list[float]]
PLAIN = ("text", "logit", "agreement", "beginning")
NEXT, OWN = range(2)
Lesson = tuple[list[float], int, bool]


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


def bucket(token: int, beginning: bool = False) -> int:
    """The first half of a table is for tokens in a block, the second for those before one."""
    return token % (model.TOKENS // 2) + beginning * (model.TOKENS // 2)


def hashed(text: Sequence[int]) -> int:
    """A polynomial in 64 bits with a sign, of which the last token is the constant."""
    whole = sum(token * model.MULTIPLIER**age for age, token in enumerate(reversed(text)))
    return (whole + 2**63) % 2**64 - 2**63


def half(value: float) -> float:
    """The nearest number of 16 bits."""
    return float(struct.unpack("e", struct.pack("e", value))[0])


class Goodput(Reading):
    carry_over = True
    learned = (
        *("tokens", "time", "gain", "reach", "skipped", "wait"),
        *("weights", "optimistic", "information", "correction", "certainty"),
    )

    def __init__(self) -> None:
        self.tokens, self.time = rule.FIRST_RATE * rule.FIRST_ROUNDS, rule.FIRST_ROUNDS
        self.gain, self.skipped, self.wait = rule.FIRST_GAIN, 0.0, rule.FIRST_WAIT
        self.reach, self.worth = [1.0] * rule.LONGEST, [0.0] * rule.LONGEST
        self.weights = [list(row) for row in model.PRIOR]
        self.size = len(model.PRIOR[NEXT])
        hope = model.OPTIMISM / math.sqrt(model.PRIOR_PRECISION)
        self.optimistic = [self.hopeful(which, self.weights[which], [hope] * self.size) for which in (NEXT, OWN)]
        self.information = [identity(self.size, 0.0)] * 2
        self.correction, self.certainty = [[0.0] * model.TOKENS] * 2, [[0.0] * model.TOKENS] * 2
        self.joint, self.agreement, self.base = 0.0, 0.0, [0.0, 0.0]
        self.before = self.now = [0] * (model.CONTEXTS + 1)
        self.fates = [[[0.0] * model.SLOTS for _ in range(model.CONTEXTS)] for _ in (NEXT, OWN)]

    @property
    def here(self) -> list[int]:
        return [hashed(self.now[-length:]) for length in range(1, model.CONTEXTS + 1)]

    def slots(self, which: int, text: Sequence[int]) -> list[int]:
        """Where the memory has a text: for *next* its last 1 … 4 tokens, for *own* one more."""
        return [hashed(text[-length - which :]) % model.SLOTS for length in range(1, model.CONTEXTS + 1)]

    def remembered(self, which: int, text: Sequence[int]) -> list[float]:
        return [table[slot] for table, slot in zip(self.fates[which], self.slots(which, text), strict=True)]

    def curiosity(self, text: Sequence[int]) -> float:
        """A text that came up before, and after which nothing was drawn."""
        known, tried = self.remembered(OWN, text)[-1], self.remembered(NEXT, text)[-1]
        return model.CURIOSITY * max(known, 0) * (1 - abs(tried))

    def prepare(self, costs: Seconds, batch_size: int, last_token: int) -> None:
        """A draft step and a column of the verification are paid once for all that reach it."""
        self.last = max(last_token, 0)
        token = self.tokens / self.time * (costs.draft_step + costs.verify_token) / costs.verify
        rows = max(batch_size, 1)
        self.bar = [token * rows / (1 + (rows - 1) * reach) for reach in self.reach]
        after = [*self.bar[1:], self.bar[-1]]
        self.worth = [math.log(bar) if bar > 0 else -math.inf for bar in after]

    def plan(self, limit: int, costs: Seconds, batch_size: int) -> int:
        self.before = self.now = [*self.before[1:], self.last]
        always = features([0.0] * model.CONTEXTS, text=1, agreement=self.agreement)
        self.base, self.joint = [dot(weights, always) for weights in self.optimistic], 0.0
        shown = features(self.remembered(NEXT, self.now), beginning=1, agreement=self.agreement)
        odds = dot(self.optimistic[NEXT], shown) + self.correction[NEXT][bucket(self.last, beginning=True)]
        first = sigmoid(odds + self.curiosity(self.now))
        self.judge([(OWN, self.now, True)])
        willing = not less(first * (1 + max(self.gain, 0)), self.bar[0])
        return limit if willing or not less(self.skipped, self.wait) else 0

    def extend(self, position: int, seen: Seen, token: int) -> bool:
        self.now = [*self.now[1:], token]
        following, drawn = (
            dot(self.optimistic[which], self.shown(which, seen, self.now)) + self.correction[which][bucket(token)]
            for which in (NEXT, OWN)
        )
        self.joint += math.log(sigmoid(drawn))
        promised = math.log(sigmoid(following + self.curiosity(self.now)))
        return not less(self.joint + promised, self.worth[min(position, rule.LONGEST - 1)])

    def shown(self, which: int, seen: Seen, text: Sequence[int]) -> list[float]:
        """What is known of a drawn token, the last of `text`."""
        confidence = min(seen.probabilities[text[-1]], seen.max_probability)
        return features(self.remembered(which, text), text=1, logit=logit(confidence), agreement=self.agreement)

    def judge(self, judged: Sequence[tuple[int, Sequence[int], bool]]) -> None:
        """Remember what became of these texts, all by what was remembered before."""
        found = []
        for which, text, kept in judged:
            for table, slot in zip(self.fates[which], self.slots(which, text), strict=True):
                found.append((table, slot, half(model.RECALL * half((1 if kept else -1) - table[slot]))))
        for table, slot, change in found:
            table[slot] = half(table[slot] + change)
        for table in (table for tables in self.fates for table in tables):
            table[:] = [max(-1.0, min(1.0, value)) for value in table]

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
            row.remember()
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
        """Of every judged position: features, bucket and whether it was accepted; for *next* and for *own*."""
        found = []
        text = self.before
        begun = features(self.remembered(NEXT, text), beginning=1, agreement=self.agreement)
        previous = (begun, bucket(self.last, beginning=True))
        for position in range(self.judged):
            token, accepted, seen = (
                self.block.tokens[position],
                position < self.block.accepted,
                self.block.seen[position],
            )
            text = [*text[1:], token]
            found.append([(*previous, accepted), (self.shown(OWN, seen, text), bucket(token), accepted)])
            previous = self.shown(NEXT, seen, text), bucket(token)
        return found

    @property
    def judged(self) -> int:
        """Positions up to the first that was rejected."""
        return min(self.block.drafted, self.block.accepted + 1)

    def remember(self) -> None:
        """This sequence's own: how often the target agreed, what became of its texts, and the text."""
        text, judged = self.before, []
        for position in range(self.judged):
            kept = position < self.block.accepted
            self.agreement = model.SMOOTHING * self.agreement + (1 - model.SMOOTHING) * (1 if kept else -1)
            judged.append((NEXT, text, kept))
            text = [*text[1:], self.block.tokens[position]]
            judged.append((OWN, text, kept))
            self.before = text if kept else self.before
        if judged:
            self.judge(judged)

    def step(self, lessons: Sequence[Sequence[Lesson]]) -> None:
        """One Newton step of each regression; what was learned decays towards the prior."""
        memory = model.DECAY ** len(lessons)
        made = [self.stepped(which, [lesson[which] for lesson in lessons], memory) for which in (NEXT, OWN)]
        self.weights, self.optimistic, self.information, self.correction, self.certainty = map(
            list, zip(*made, strict=True)
        )

    def stepped(
        self, which: int, lessons: Sequence[Lesson], memory: float
    ) -> tuple[list[float], list[float], Matrix, list[float], list[float]]:
        weights, gradient = self.weights[which], [0.0] * self.size
        information = [[memory * old for old in row] for row in self.information[which]]
        certainty, owed = [memory * old for old in self.certainty[which]], [0.0] * model.TOKENS
        for shown, where, accepted in lessons:
            chance = sigmoid(dot(weights, shown) + self.correction[which][where])
            curvature, missed = max(chance * (1 - chance), model.LEAST_CURVATURE), accepted - chance
            information = [
                [old + curvature * left * right for old, right in zip(row, shown, strict=True)]
                for row, left in zip(information, shown, strict=True)
            ]
            gradient = [old + missed * value for old, value in zip(gradient, shown, strict=True)]
            certainty[where] += curvature
            owed[where] += missed
        prior = identity(self.size, model.PRIOR_PRECISION)
        covariance = inverse([[*map(sum, zip(*rows, strict=True))] for rows in zip(information, prior, strict=True)])
        moved = [old + dot(row, gradient) for old, row in zip(weights, covariance, strict=True)]
        hope = [model.OPTIMISM * math.sqrt(covariance[number][number]) for number in range(self.size)]
        correction = [
            old + more / (sure + model.CORRECTION_PRECISION)
            for old, more, sure in zip(self.correction[which], owed, certainty, strict=True)
        ]
        return moved, self.hopeful(which, moved, hope), information, correction, certainty

    def hopeful(self, which: int, weights: Sequence[float], hope: Sequence[float]) -> list[float]:
        """With hope added to *next*'s constants, of a position in a block and of its beginning."""
        constants = {PLAIN.index("text"), PLAIN.index("beginning")} if which == NEXT else ()
        return [weight + (number in constants) * hope[number] for number, weight in enumerate(weights)]
