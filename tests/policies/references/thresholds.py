"""Rules that hold a score against a threshold."""

import math
import operator
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

from hypothesis import reject
from safetensors.torch import load_file

from tests.policies.references.base import NEAR, Block, Reading, Seconds, Seen, less

ALGORITHM_1 = {
    "alpha": 0.9,
    "epsilon": 0.01,
    "beta1": 0.5,
    "beta2": 0.9,
    "initial_acceptance_rate": None,
    "full": "accepted",
}


class Threshold(Reading):
    """λ and AR of AdaEDL's Algorithm 1, or a fixed λ."""

    learned = ("threshold", "acceptance_rate")

    def __init__(
        self,
        threshold: float,
        max_draft: int = 7,
        min_draft: int = 1,
        update: str = "fixed",
        controller: dict[str, Any] | None = None,
        carry_over: bool = False,
        stop_token: str = "exclude",
    ) -> None:
        self.threshold, self.max_draft, self.min_draft = threshold, max_draft, min_draft
        self.update, self.carry_over, self.stop_token = update, carry_over, stop_token
        self.constants = ALGORITHM_1 | (controller or {})
        unset = self.constants["initial_acceptance_rate"] is None
        self.acceptance_rate = self.constants["alpha" if unset else "initial_acceptance_rate"]

    def score(self, seen: Seen) -> float:
        raise NotImplementedError

    def plan(self, limit: int, costs: Seconds, batch_size: int) -> int:
        return min(limit, self.max_draft)

    def admit(self, position: int, seen: Seen) -> bool:
        if self.stop_token == "include" or position < self.min_draft:
            return True
        return not less(self.score(seen), self.threshold)

    def extend(self, position: int, seen: Seen, token: int) -> bool:
        if self.stop_token == "exclude" or position + 1 < self.min_draft:
            return True
        return not less(self.score(seen), self.threshold)

    def learn(self, block: Block) -> bool:
        if self.update != "algorithm1" or block.drafted == 0:
            return False
        k = self.constants
        self.acceptance_rate = k["beta1"] * self.acceptance_rate + (1 - k["beta1"]) * block.accepted / block.drafted
        if less(self.acceptance_rate, k["alpha"]):
            aim = self.threshold + k["epsilon"]
        elif getattr(block, k["full"]) != self.max_draft:
            aim = self.threshold - k["epsilon"]
        else:
            aim = self.threshold
        self.threshold = k["beta2"] * self.threshold + (1 - k["beta2"]) * aim
        return True


class AdaEDL(Threshold):
    def __init__(self, gamma: float = 0.2, **fields: Any) -> None:
        super().__init__(**{"threshold": 0.7, "update": "algorithm1", **fields})
        self.gamma = gamma

    def score(self, seen: Seen) -> float:
        return 1 - math.sqrt(self.gamma * seen.entropy)


class MaxProbability(Threshold):
    def __init__(self, **fields: Any) -> None:
        super().__init__(**{"threshold": 0.6, **fields})

    def score(self, seen: Seen) -> float:
        return seen.max_probability


class Margin(Threshold):
    def __init__(self, **fields: Any) -> None:
        super().__init__(**{"threshold": 0.3, **fields})

    def score(self, seen: Seen) -> float:
        return seen.margin


class DrawnProbability(Threshold):
    """q(x), with the token that fails kept: transformers' confidence and ROC rules, Draft & Verify."""

    def __init__(self, distribution: str = "sampled", history: int = 512, **fields: Any) -> None:
        super().__init__(**{"threshold": 0.4, "max_draft": 20, **fields})
        self.untempered, self.longest = distribution == "untempered", history
        self.history: list[tuple[float, bool]] = []
        self.before, self.news = self.history, self.history

    @property
    def score(self) -> list[float]:  # type: ignore[override]
        """q(x) of the judged tokens, oldest first, after room for more."""
        return [-1.0] * (self.longest - len(self.history)) + [score for score, _ in self.history]

    @property
    def match(self) -> list[float]:
        """Whether each was accepted."""
        return [-1.0] * (self.longest - len(self.history)) + [float(match) for _, match in self.history]

    def probability(self, seen: Seen, token: int) -> float:
        """q(x), of the distribution that is sampled or of the softmax of the raw logits."""
        if not self.untempered:
            return seen.probabilities[token]
        top = max(seen.logits)
        weights = [math.exp(logit - top) for logit in seen.logits]
        return weights[token] / sum(weights)

    def admit(self, position: int, seen: Seen) -> bool:
        return True

    def extend(self, position: int, seen: Seen, token: int) -> bool:
        if position + 1 < self.min_draft:
            return True
        probability = self.probability(seen, token)
        if self.update == "roc" and not self.untempered and probability == self.threshold:
            return True  # the threshold is itself a q(x) of the past: equality is meant
        return not less(probability, self.threshold)

    def learn(self, block: Block) -> bool:
        if self.update != "roc":
            return super().learn(block)
        judged = min(block.accepted + 1, block.drafted)  # the first rejected token is the last that says anything
        self.news = [(self.probability(block.seen[i], block.tokens[i]), i < block.accepted) for i in range(judged)]
        self.before, self.history = self.history, (self.history + self.news)[-self.longest :]
        return judged > 0

    def share(self, taught: Sequence[Any], rows: Sequence[Any]) -> None:
        if self.update != "roc":
            return super().share(taught, rows)
        together = taught[0].before + [entry for row in taught for entry in row.news]
        for row in rows:
            row.history = together[-self.longest :]
        return None

    def settle(self) -> None:
        if self.update == "roc":
            self.threshold = self.best(self.threshold)

    def best(self, otherwise: float) -> float:
        """As scikit-learn's roc_curve and argmin(fpr + 3·fnr), from the largest score down."""
        scores = sorted({score for score, _ in self.history}, reverse=True)
        if self.untempered and any(high - low < NEAR for high, low in pairwise(scores)):
            reject()
        matched = [score for score, match in self.history if match]
        missed = [score for score, match in self.history if not match]
        if len(self.history) <= 5 or not matched or not missed:
            return otherwise
        costs = {
            score: Fraction(sum(other >= score for other in missed), len(missed))
            + 3 * Fraction(sum(other < score for other in matched), len(matched))
            for score in scores
        }
        return min(scores, key=lambda score: costs[score])


class Svip(Reading):
    def __init__(self, scale: float = 0.15, threshold: float = 0.3, max_draft: int = 40) -> None:
        self.scale, self.most, self.max_draft = scale, threshold, max_draft

    def plan(self, limit: int, costs: Seconds, batch_size: int) -> int:
        return min(limit, self.max_draft)

    def extend(self, position: int, seen: Seen, token: int) -> bool:
        return not less(self.most, math.sqrt(self.scale * seen.entropy))


class JointConfidence(Reading):
    def __init__(self, threshold: float = 0.5, min_draft: int = 2, max_draft: int = 20) -> None:
        self.most, self.min_draft, self.max_draft = threshold, min_draft, max_draft
        self.joint = 1.0

    def plan(self, limit: int, costs: Seconds, batch_size: int) -> int:
        self.joint = 1.0
        return min(limit, self.max_draft)

    def confidence(self, position: int, seen: Seen) -> float:
        return seen.max_probability

    def extend(self, position: int, seen: Seen, token: int) -> bool:
        self.joint *= self.confidence(position, seen)
        return position + 1 < self.min_draft or not less(self.most, 1 - self.joint)


class AcceptanceHead(JointConfidence):
    """SpecDec++: a token is judged by the state that has read it, which is that of the next position."""

    def __init__(self, threshold: float = 0.3, weights: str | None = None, **fields: int) -> None:
        super().__init__(threshold=threshold, **fields)
        self.weights = {name: value.tolist() for name, value in load_file(weights).items()} if weights else {}

    def confidence(self, position: int, seen: Seen) -> float:
        if not self.weights:
            return super().confidence(position, seen)
        if position == 0:
            return 1.0
        x, block = seen.hidden_state, 0
        while f"blocks.{block}.weight" in self.weights:
            inside = self.linear(f"blocks.{block}", x)
            x = [was + value / (1 + math.exp(-value)) for was, value in zip(x, inside, strict=True)]
            block += 1
        return 1 / (1 + math.exp(-self.linear("out", x)[0]))

    def linear(self, name: str, x: Sequence[float]) -> list[float]:
        matrix, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return [sum(map(operator.mul, row, x)) + shift for row, shift in zip(matrix, bias, strict=True)]
