"""Thresholds, fixed or moved by Algorithm 1 of the AdaEDL paper, and `ThresholdPolicy`: a score per position."""

from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from stopkit.policy import CarryOver, Drawn, RoundContext, RoundOutcome, StoppingPolicy
from stopkit.signals import Signals
from stopkit.state import State


class ThresholdController(BaseModel):
    """Algorithm 1 of AdaEDL (arXiv 2410.18351): raise the threshold when acceptance falls short, else lower it.

    Once a round, with L the maximum draft length:
        AR = β1·AR + (1 − β1)·accepted / drafted
        λ' = λ + ε if AR < α, λ if the block was full, λ − ε otherwise
        λ  = β2·λ + (1 − β2)·λ'
    In AdaEDL a block is full when accepted = L; in Draft & Verify (arXiv 2309.08168) when drafted = L. A round that
    drafts nothing has no acceptance rate and changes nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    alpha: float = Field(default=0.9, ge=0, le=1, description="target acceptance rate α")
    epsilon: float = Field(default=0.01, ge=0, le=1, description="threshold step ε")
    beta1: float = Field(default=0.5, ge=0, le=1, description="smoothing of the acceptance rate β1")
    beta2: float = Field(default=0.9, ge=0, le=1, description="smoothing of the threshold β2")
    initial_acceptance_rate: float | None = Field(
        default=None, ge=0, le=1, description="acceptance rate before the first round; α when unset"
    )
    full: Literal["accepted", "drafted"] = Field(
        default="accepted", description="the threshold is not lowered when this many tokens are the maximum"
    )

    def init(self, threshold: float, batch_size: int, device: torch.device, shared: bool) -> State:
        """`batch_size` rows at `threshold`, or one that they share."""
        rate = self.alpha if self.initial_acceptance_rate is None else self.initial_acceptance_rate
        return State.learned(batch_size, device, shared=shared, threshold=threshold, acceptance_rate=rate)

    def learn(self, state: State, outcome: RoundOutcome, max_draft: int) -> State:
        """The state after a round; `max_draft` is L."""
        threshold, drafted = state["threshold"], outcome.drafted
        rate_now = outcome.accepted.double() / drafted.clamp(min=1)
        rate = self.beta1 * state["acceptance_rate"] + (1 - self.beta1) * rate_now
        short, full = rate < self.alpha, getattr(outcome, self.full) == max_draft
        step = self.epsilon * (short.double() - (~short & ~full).double())
        return state.moved(drafted > 0, threshold=threshold + (1 - self.beta2) * step, acceptance_rate=rate)


class MovingThreshold(StoppingPolicy):
    """A threshold between a least and a most number of tokens; what is held against it is up to the rule."""

    threshold: float = Field(default=0.5, ge=0, le=1, description="draft on while the score is at least this, λ")
    max_draft: int = Field(default=7, ge=0, le=1024, description="most tokens a round, L")
    min_draft: int = Field(default=1, ge=0, le=1024, description="tokens a round that are drafted whatever their score")
    update: Literal["fixed", "algorithm1"] = Field(
        default="fixed", description="keep the threshold, or move it every round by Algorithm 1 of AdaEDL"
    )
    controller: ThresholdController = Field(
        default=ThresholdController(), description="constants of Algorithm 1; read when update is algorithm1"
    )
    carry_over: CarryOver = False

    def init(self, batch_size: int, device: torch.device) -> State:
        return self.controller.init(self.threshold, batch_size, device, self.carry_over)

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return context.limit.clamp(max=self.max_draft), state

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        if self.update == "fixed":
            return state
        return self.controller.learn(state, outcome, self.max_draft)

    def passes(self, state: State, drafted: Tensor, score: Tensor) -> Tensor:
        """Whether a position is good enough, [B]: by its `score` [B], or with fewer than `min_draft` `drafted`."""
        return (drafted < self.min_draft) | (score >= state["threshold"])


class ThresholdPolicy(MovingThreshold):
    """Draft while `score` is at least the threshold. A new rule is a `kind`, its `signals` and `score`."""

    stop_token: Literal["exclude", "include"] = Field(
        default="exclude",
        description="whether the position that fails the test stays out of the block or is its last token",
    )

    signals: ClassVar[frozenset[str]]

    @abstractmethod
    def score(self, signals: Signals) -> Tensor:
        """How promising the position is, [B]; on the scale of `threshold`."""

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        if self.stop_token == "include":
            return super().admit(state, position, signals)
        return self.passes(state, position, self.score(signals)), state

    def extend(self, state: State, position: Tensor, signals: Signals, drawn: Drawn) -> tuple[Tensor, State]:
        if self.stop_token == "exclude":
            return super().extend(state, position, signals, drawn)
        return self.passes(state, position + 1, self.score(signals)), state
