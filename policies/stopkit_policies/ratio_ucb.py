"""`ratio_ucb`: the draft length that could have the best ratio of tokens to time, by all that is known.

Rule: after every length k has had a round, the k with the largest

    (Σ tokens + e·k·sqrt(2·n·ln t)) / Σ time,

n and the sums being those of the rounds that drafted k tokens, t the number of all rounds. What a long generation gets
is the ratio of the sums, not the mean of the ratios. The bonus is that of UCB1 for the mean number of tokens, of which
k are open.

Source: UCB-SpecStop, arXiv 2606.20591, which states draft lengths as a ratio-type optimal stopping problem, for a
draft at the edge and a target in the cloud: each round begins with a journey through the network. `overhead` is that
journey, where the engine does not measure it.

Choices: e = 0.1; the textbook's is 1, and its theorems hold for that, but a few hundred rounds are then spent on
trials. A round counts for the length that it had, whether or not a limit cut it. What is learned is shared by all
sequences and carried over. Not to speculate is no choice of this rule: put it in a `guard` for that.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from stopkit import CarryOver, RoundContext, RoundOutcome, State, StoppingPolicy


class RatioUCB(StoppingPolicy):
    """Chooses a draft length a round by an upper confidence bound on tokens over time."""

    kind: ClassVar[str] = "ratio_ucb"
    formula: ClassVar[str] = "cap = argmax_k (Σ tokens + e·k·sqrt(2·n·ln t)) / Σ time"
    source: ClassVar[str] = "UCB-SpecStop, arXiv 2606.20591"

    max_draft: int = Field(default=8, ge=1, le=1024, description="most tokens a round")
    exploration: float = Field(default=0.1, ge=0, le=100, description="e, how much seldom tried lengths are tried")
    overhead: float = Field(
        default=0.0, ge=0, le=1_000_000, description="what a round takes besides what is measured, target-step times"
    )
    carry_over: CarryOver = True

    def init(self, batch_size: int, device: torch.device) -> State:
        none = [0.0] * self.max_draft
        return State.learned(batch_size, device, shared=self.carry_over, rounds=none, tokens=none, seconds=none)

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        rounds = state["rounds"]
        length = torch.arange(1, self.max_draft + 1, device=rounds.device)
        tried = rounds.sum(1, keepdim=True).clamp(min=1)
        hope = self.exploration * length * (2 * rounds * tried.log()).sqrt()
        ratio = (state["tokens"] + hope) / state["seconds"].clamp(min=1e-30)
        best = ratio.where(rounds > 0, torch.inf).argmax(1) + 1
        return torch.minimum(best, context.limit), state

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        drafted = outcome.drafted.unsqueeze(1)
        had = (torch.arange(1, self.max_draft + 1, device=drafted.device) == drafted).double()
        seconds = outcome.seconds + self.overhead * outcome.context.costs.verify
        return state.moved(
            had.any(1),
            rounds=state["rounds"] + had,
            tokens=state["tokens"] + had * (outcome.accepted.unsqueeze(1) + 1),
            seconds=state["seconds"] + had * seconds,
        )
