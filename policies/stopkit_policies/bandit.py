"""`bandit`: let experience choose among whole policies, anew for every round.

`algorithm = "ucb1"`: the policy with the largest r_i / max r + e·sqrt(2 ln t / n_i), each once to begin with. r_i is
the tokens per second of all rounds that policy i decided (a ratio of sums: what a long generation gets), n_i their
number, t the number of all. Only the policy that decided a round learns from it.

`algorithm = "hedge"`: policy i with a probability proportional to exp(η·G_i). After a round, every policy that would
have stopped within the drafted block has a known outcome; its gain grows by tokens − ρ·seconds, less that of the
policy that decided, with ρ the tokens per second of the rounds before and seconds by the cost model. That of a policy
that wanted more than was drafted stays. All whose outcome is known learn from it, each from its own part of the
block.

Sources: UCB1 over stopping rules, TapOut (arXiv 2511.02017); rewards in tokens per second, BanditSpec (arXiv
2505.15141) and its code; full information, Not-a-Bandit (arXiv 2510.20064), which hedges among draft models.

Choices: UCB1 supposes rewards in [0, 1], so rates are divided by the best of them; e = 0.5, about the spread of one
round's rate, below the textbook's 1. A policy keeps no random generator: Hedge takes the policy at the quantile
frac(t·φ), φ the golden ratio, which visits each in its proportion. Gains are not normalised; η = 0.1 a token. What is
learned is shared by all sequences of an engine, which then follow one policy at a time; else each sequence learns for
itself. The default policies differ in kind: by confidence, a constant length, and not to speculate.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from stopkit import CarryOver, NestedPolicy, RoundContext, RoundOutcome, SideBySide, State, StoppingPolicy
from stopkit_policies.max_probability import MaxProbability
from stopkit_policies.static import Static

GOLDEN = (5**0.5 - 1) / 2


class Bandit(SideBySide):
    """Chooses among policies by the tokens per second that they have reached."""

    kind: ClassVar[str] = "bandit"
    formula: ClassVar[str] = "UCB1 on tokens per second, or Hedge on what each policy would have gained"
    source: ClassVar[str] = "TapOut, arXiv 2511.02017; BanditSpec, arXiv 2505.15141; Not-a-Bandit, arXiv 2510.20064"

    policies: tuple[NestedPolicy, ...] = Field(
        default=(MaxProbability(), Static(), Static(length=0)), min_length=1, description="the policies to choose among"
    )
    algorithm: Literal["ucb1", "hedge"] = Field(
        default="ucb1", description="learn from the rounds a policy decided, or from all whose outcome is known"
    )
    exploration: float = Field(default=0.5, ge=0, le=100, description="e, how much an untried policy is tried; ucb1")
    learning_rate: float = Field(default=0.1, ge=0, le=100, description="η, per token of gain; hedge")
    carry_over: CarryOver = True

    @property
    def members(self) -> tuple[StoppingPolicy, ...]:
        return self.policies

    def init(self, batch_size: int, device: torch.device) -> State:
        none = [0.0] * len(self.policies)
        chosen = State(rows={"chosen": torch.zeros(batch_size, dtype=torch.long, device=device)})
        learned = State.learned(
            batch_size, device, shared=self.carry_over, rounds=none, tokens=none, seconds=none, gain=none
        )
        return super().init(batch_size, device) | chosen | learned

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        chosen = self._ucb1(state) if self.algorithm == "ucb1" else self._hedge(state)
        return super().plan(state.put(chosen=chosen.expand_as(context.limit)), context)

    def combine(self, state: State, lengths: Tensor) -> Tensor:
        return lengths.gather(1, state.rows["chosen"].unsqueeze(1)).squeeze(1)

    def taught(self, state: State, outcome: RoundOutcome) -> Tensor:
        decided = self._decided(state)
        known = decided if self.algorithm == "ucb1" else decided | self._known(state, outcome)
        return known & outcome.context.active.unsqueeze(1)

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        decided = self._decided(state).double()
        tokens, seconds = (outcome.accepted + 1).double().unsqueeze(1), outcome.seconds
        return (
            super()
            .learn(state, outcome)
            .moved(
                outcome.context.limit > 0,
                rounds=state["rounds"] + decided,
                tokens=state["tokens"] + decided * tokens,
                seconds=state["seconds"] + decided * seconds,
                gain=state["gain"] + self._gain(state, outcome),
            )
        )

    def _decided(self, state: State) -> Tensor:
        """Which policy decided the round of each row, [B, n] bool."""
        return torch.arange(len(self.policies), device=state.rows["chosen"].device) == state.rows["chosen"].unsqueeze(1)

    def _ucb1(self, state: State) -> Tensor:
        rounds = state["rounds"]
        rates = state["tokens"] / state["seconds"].clamp(min=1e-30)
        bonus = (2 * rounds.sum(1, keepdim=True).clamp(min=1).log() / rounds).sqrt()
        index = rates / rates.amax(1, keepdim=True) + self.exploration * bonus
        return index.where(rounds > 0, torch.inf).argmax(1)

    def _hedge(self, state: State) -> Tensor:
        shares = (self.learning_rate * state["gain"]).softmax(1).cumsum(1)
        quantile = (state["rounds"].sum(1, keepdim=True) * GOLDEN) % 1
        return (shares <= quantile).sum(1).clamp(max=len(self.policies) - 1)

    def _gain(self, state: State, outcome: RoundOutcome) -> Tensor:
        """What each policy would have gained this round over the one that decided, [B, n], tokens."""
        if self.algorithm == "ucb1":
            return torch.zeros_like(state["gain"])
        costs, decided = outcome.context.costs, self._decided(state)
        length = torch.minimum(state.rows["lengths"], outcome.drafted.unsqueeze(1))
        tokens = torch.minimum(length, outcome.accepted.unsqueeze(1)) + 1
        seconds = costs.round(length)
        rate = state["tokens"].sum(1, keepdim=True) / state["seconds"].sum(1, keepdim=True).clamp(min=1e-30)
        gain = tokens - rate * seconds
        own = (gain * decided).sum(1, keepdim=True)
        return (gain - own).where(self._known(state, outcome), 0.0)

    def _known(self, state: State, outcome: RoundOutcome) -> Tensor:
        """Which policies would have stopped within the block, [B, n] bool."""
        return state.rows["lengths"] <= outcome.drafted.unsqueeze(1)
