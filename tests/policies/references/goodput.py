"""`goodput` and its acceptance model: what is tunable is read from the modules, the mechanism is written again."""

import math
from collections.abc import Sequence

from stopkit_policies import acceptance_model as model
from stopkit_policies import goodput as rule
from tests.policies.references.base import Block, Reading, Seconds, Seen, less

Matrix = list[list[float]]
PLAIN = ("text", "logit", "agreement", "seen", "beginning")


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


def features(**values: float) -> list[float]:
    return [values.get(name, 0.0) for name in PLAIN]


def bucket(token: int, beginning: bool = False) -> int:
    """The first half of a table is for tokens in a block, the second for those before one."""
    return token % (model.TOKENS // 2) + beginning * (model.TOKENS // 2)


def place(before: tuple[int, int], token: int) -> int:
    """Where it is marked that a sequence holds these three tokens in this order."""
    return (packed(before) + token) % model.TRIGRAMS


def packed(last_two: tuple[int, int]) -> int:
    return (last_two[0] << 2 * model.BITS) + (last_two[1] << model.BITS)


class Goodput(Reading):
    carry_over = True
    learned = (
        *("tokens", "time", "gain", "reach", "skipped", "wait"),
        *("weights", "optimistic", "precision", "correction", "certainty"),
    )

    def __init__(self) -> None:
        self.tokens, self.time = rule.FIRST_RATE * rule.FIRST_ROUNDS, rule.FIRST_ROUNDS
        self.gain, self.skipped, self.wait = 0.0, 0.0, rule.FIRST_WAIT
        self.reach, self.worth = [1.0] * rule.LONGEST, [0.0] * rule.LONGEST
        self.weights = [list(row) for row in model.PRIOR]
        hope = model.OPTIMISM / math.sqrt(model.PRIOR_PRECISION)
        self.optimistic = [
            [weight + which * hope * (name in ("text", "beginning")) for name, weight in zip(PLAIN, row, strict=True)]
            for which, row in enumerate(model.PRIOR)
        ]
        self.precision = [identity(len(PLAIN), model.PRIOR_PRECISION)] * 2
        self.correction = [[0.0] * model.TOKENS] * 2
        self.certainty = [[model.CORRECTION_PRECISION] * model.TOKENS] * 2
        self.joint, self.agreement, self.base = 0.0, 0.0, [0.0, 0.0]
        self.two, self.now, self.held = (0, 0), (0, 0), set[int]()

    @property
    def slopes(self) -> Matrix:
        return [[weights[PLAIN.index(name)] for weights in self.optimistic] for name in ("logit", "seen")]

    @property
    def before(self) -> int:
        return packed(self.two)

    @property
    def here(self) -> int:
        return packed(self.now)

    @property
    def trigrams(self) -> list[bool]:
        return [number in self.held for number in range(model.TRIGRAMS)]

    def prepare(self, costs: Seconds, batch_size: int, last_token: int) -> None:
        """A draft step and a column of the verification are paid once for all that reach it."""
        self.last = max(last_token, 0)
        token = self.tokens / self.time * (costs.draft_step + costs.verify_token) / costs.verify
        rows = max(batch_size, 1)
        self.bar = [token * rows / (1 + (rows - 1) * reach) for reach in self.reach]
        after = [*self.bar[1:], self.bar[-1]]
        self.worth = [math.log(bar) if bar > 0 else -math.inf for bar in after]

    def plan(self, limit: int, costs: Seconds, batch_size: int) -> int:
        self.held = {*self.held, place(self.two, self.last)}
        self.two = self.now = (self.two[1], self.last)
        always = features(text=1, agreement=self.agreement)
        self.base, self.joint = [dot(weights, always) for weights in self.optimistic], 0.0
        odds = dot(self.optimistic[1], features(beginning=1, agreement=self.agreement))
        first = sigmoid(odds + self.correction[1][bucket(self.last, beginning=True)])
        willing = not less(first * (1 + max(self.gain, 0)), self.bar[0])
        return limit if willing or not less(self.skipped, self.wait) else 0

    def extend(self, position: int, seen: Seen, token: int) -> bool:
        shown = self.shown(seen, token, place(self.now, token) in self.held)
        self.now = (self.now[1], token)
        odds = [
            dot(weights, shown) + correction[bucket(token)]
            for weights, correction in zip(self.optimistic, self.correction, strict=True)
        ]
        drawn, following = (math.log(sigmoid(one)) for one in odds)
        self.joint += drawn
        return not less(self.joint + following, self.worth[min(position, rule.LONGEST - 1)])

    def shown(self, seen: Seen, token: int, known: bool) -> list[float]:
        """What is known of a drawn token."""
        confidence = min(seen.probabilities[token], seen.max_probability)
        return features(text=1, logit=logit(confidence), agreement=self.agreement, seen=known)

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
            self.gain = rule.GAIN_MEMORY * self.gain + (1 - rule.GAIN_MEMORY) * sum(gains) / len(gains)
        if not longest:
            self.skipped += 1
            return
        shares = [sum(block.drafted > depth for block in blocks) / len(blocks) for depth in range(rule.LONGEST)]
        self.reach = [rule.MEMORY * old + (1 - rule.MEMORY) * new for old, new in zip(self.reach, shares, strict=True)]
        tried = not less(self.skipped, self.wait)
        self.wait = min(self.wait * rule.PATIENCE, rule.LONGEST_WAIT) if tried else rule.FIRST_WAIT
        self.skipped = 0.0

    def lessons(self) -> list[list[tuple[list[float], int, bool]]]:
        """Of every judged position: features, bucket and whether it was accepted; for *own* and for *next*."""
        found, before = [], self.two
        previous = (features(beginning=1, agreement=self.agreement), bucket(self.last, beginning=True))
        for position in range(self.judged):
            token, accepted = self.block.tokens[position], position < self.block.accepted
            known = place(before, token) in self.held
            own = (self.shown(self.block.seen[position], token, known), bucket(token))
            found.append([(*own, accepted), (*previous, accepted)])
            previous, before = own, (before[1], token)
        return found

    @property
    def judged(self) -> int:
        """Positions up to the first that was rejected."""
        return min(self.block.drafted, self.block.accepted + 1)

    def remember(self) -> None:
        """This sequence's own: how often the target agreed, and its text with what was accepted."""
        for position in range(self.judged):
            sign = 1 if position < self.block.accepted else -1
            self.agreement = model.SMOOTHING * self.agreement + (1 - model.SMOOTHING) * sign
        for token in self.block.tokens[: self.block.accepted]:
            self.held = {*self.held, place(self.two, token)}
            self.two = (self.two[1], token)

    def step(self, lessons: Sequence[Sequence[tuple[list[float], int, bool]]]) -> None:
        """One Newton step of each regression; what was learned decays towards the prior."""
        memory = model.DECAY ** len(lessons)
        made = [self.stepped(which, [lesson[which] for lesson in lessons], memory) for which in range(2)]
        self.weights, self.optimistic, self.precision, self.correction, self.certainty = map(
            list, zip(*made, strict=True)
        )

    def stepped(
        self, which: int, lessons: Sequence[tuple[list[float], int, bool]], memory: float
    ) -> tuple[list[float], list[float], Matrix, list[float], list[float]]:
        weights, size = self.weights[which], len(PLAIN)
        prior = identity(size, model.PRIOR_PRECISION)
        precision = [
            [memory * self.precision[which][row][column] + (1 - memory) * prior[row][column] for column in range(size)]
            for row in range(size)
        ]
        certainty = [memory * old + (1 - memory) * model.CORRECTION_PRECISION for old in self.certainty[which]]
        gradient, owed = [0.0] * size, [0.0] * model.TOKENS
        for shown, where, accepted in lessons:
            chance = sigmoid(dot(weights, shown) + self.correction[which][where])
            curvature, missed = max(chance * (1 - chance), model.LEAST_CURVATURE), accepted - chance
            precision = [
                [old + curvature * left * right for old, right in zip(row, shown, strict=True)]
                for row, left in zip(precision, shown, strict=True)
            ]
            gradient = [old + missed * value for old, value in zip(gradient, shown, strict=True)]
            certainty[where] += curvature
            owed[where] += missed
        covariance = inverse(precision)
        moved = [old + dot(row, gradient) for old, row in zip(weights, covariance, strict=True)]
        hoped = [
            which * model.OPTIMISM * math.sqrt(covariance[number][number]) * (name in ("text", "beginning"))
            for number, name in enumerate(PLAIN)
        ]
        correction = [
            old + more / sure for old, more, sure in zip(self.correction[which], owed, certainty, strict=True)
        ]
        return moved, [one + hope for one, hope in zip(moved, hoped, strict=True)], precision, correction, certainty
