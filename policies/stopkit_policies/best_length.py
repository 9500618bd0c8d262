"""`best_length`: the draft length that would have paid best so far.

Rule: cap = argmax over K of (1 + Σ_{j≤K} Ŝ_j) / (1 + K·(c + v)), the expected tokens of a round over its time in
target steps. Ŝ_j is the estimated probability that the first j tokens of a block are accepted, c = draft step /
verification, v = added verification time a block token / verification; what a block costs whatever its length, where
an engine measures that, is added below. K = 0 does not speculate.

Ŝ_j = Π_{i≤j} (w_i + m·a) / (n_i + m), where n_i counts the blocks in which token i was judged, w_i those in which it
was accepted, both decayed by 0.95 at every new count. Counting by position given acceptance of all before, rather
than survival itself, uses blocks of every length and keeps Ŝ from rising along the block.

Source: an idea of serving engines (drafts of vLLM and SGLang), without a paper. Choices of this project: the prior (m
= 1 block at a = 0.7); every 16th round drafts one token more than the best, or a rule that has fallen short could
never learn better; what is learned is shared by all sequences and carried over.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from stopkit import CarryOver, RoundContext, RoundOutcome, State, StoppingPolicy


class BestLength(StoppingPolicy):
    """The constant draft length with the best measured rate, kept up to date."""

    kind: ClassVar[str] = "best_length"
    formula: ClassVar[str] = "cap = argmax_K (1 + Σ_{j≤K} Ŝ_j) / (1 + K·(c + v))"
    source: ClassVar[str] = "this project, after drafts of the idea in vLLM and SGLang"

    max_draft: int = Field(default=16, ge=1, le=1024, description="most tokens a round")
    decay: float = Field(default=0.95, gt=0, le=1, description="weight of the counts so far at every new one")
    prior: float = Field(default=0.7, ge=0, le=1, description="a, acceptance probability assumed before any count")
    prior_weight: float = Field(default=1.0, gt=0, le=1000, description="m, how many counts the assumption weighs")
    probe_every: int = Field(default=16, ge=1, le=1024, description="rounds from one probe to the next")
    carry_over: CarryOver = True

    def init(self, batch_size: int, device: torch.device) -> State:
        none = [0.0] * self.max_draft
        return State.learned(batch_size, device, shared=self.carry_over, judged=none, accepted=none, rounds=0)

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        costs = context.costs
        chance = (state["accepted"] + self.prior_weight * self.prior) / (state["judged"] + self.prior_weight)
        tokens = 1 + chance.cumprod(1).cumsum(1)
        lengths = torch.arange(1, self.max_draft + 1, device=chance.device)
        rates = tokens * costs.verify / costs.round(lengths)
        rate, best = rates.max(1)
        best = torch.where(rate > 1, best + 1, 0)
        probes = state["rounds"] % self.probe_every == self.probe_every - 1
        return torch.minimum((best + probes).clamp(max=self.max_draft), context.limit), state

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        judged, accepted = outcome.judged(self.max_draft)
        kept = 1 - (1 - self.decay) * judged.double()
        return state.moved(
            outcome.context.active,
            judged=state["judged"] * kept + judged,
            accepted=state["accepted"] * kept + (judged & accepted),
            rounds=state["rounds"] + 1,
        )
