"""`ThresholdPolicy`: a score per position against a threshold, fixed or moved by Algorithm 1 of the AdaEDL paper."""

from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from stopkit.policy import Drawn, RoundContext, RoundOutcome, Signals, State, StoppingPolicy


class ThresholdController(BaseModel):
    """Algorithm 1 of AdaEDL (arXiv 2410.18351): raise the threshold when acceptance falls short, else lower it.

    Once a round, with L the maximum draft length:
        AR = β1·AR + (1 − β1)·accepted / drafted
        λ' = λ + ε if AR < α, λ − ε if accepted ≠ L, λ otherwise
        λ  = β2·λ + (1 − β2)·λ'
    A round that drafts nothing has no acceptance rate and changes nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    alpha: float = Field(default=0.9, ge=0, le=1, description="target acceptance rate α")
    epsilon: float = Field(default=0.01, ge=0, le=1, description="threshold step ε")
    beta1: float = Field(default=0.5, ge=0, le=1, description="smoothing of the acceptance rate β1")
    beta2: float = Field(default=0.9, ge=0, le=1, description="smoothing of the threshold β2")
    initial_acceptance_rate: float | None = Field(
        default=None, ge=0, le=1, description="acceptance rate before the first round; α when unset"
    )

    def init(self, threshold: float, batch_size: int, device: torch.device) -> State:
        """`batch_size` rows at `threshold`."""
        rate = self.alpha if self.initial_acceptance_rate is None else self.initial_acceptance_rate
        full = (batch_size,)
        return State(
            rows={
                "threshold": torch.full(full, threshold, device=device),
                "acceptance_rate": torch.full(full, rate, device=device),
            }
        )

    def learn(self, state: State, outcome: RoundOutcome, max_draft: int) -> State:
        """The state after a round; `max_draft` is L."""
        threshold, rate = state.rows["threshold"], state.rows["acceptance_rate"]
        rate_now = torch.lerp(outcome.accepted / outcome.drafted.clamp(min=1), rate, self.beta1)
        step = torch.where(rate_now < self.alpha, self.epsilon, -self.epsilon * (outcome.accepted != max_draft))
        moved = threshold + (1 - self.beta2) * step
        taught = outcome.drafted > 0
        return State(
            rows={
                "threshold": torch.where(taught, moved, threshold),
                "acceptance_rate": torch.where(taught, rate_now, rate),
            }
        )


class ThresholdPolicy(StoppingPolicy):
    """Draft while `score` is at least the threshold. A new rule is a `kind`, its `signals` and `score`."""

    threshold: float = Field(default=0.5, ge=0, le=1, description="draft on while the score is at least this, λ")
    max_draft: int = Field(default=7, ge=0, le=1024, description="most tokens a round, L")
    min_draft: int = Field(default=1, ge=0, le=1024, description="tokens a round that are drafted whatever their score")
    stop_token: Literal["exclude", "include"] = Field(
        default="exclude",
        description="whether the position that fails the test stays out of the block or is its last token",
    )
    update: Literal["fixed", "algorithm1"] = Field(
        default="fixed", description="keep the threshold, or move it every round by Algorithm 1 of AdaEDL"
    )
    controller: ThresholdController = Field(
        default=ThresholdController(), description="constants of Algorithm 1; read when update is algorithm1"
    )

    signals: ClassVar[frozenset[str]]

    @abstractmethod
    def score(self, signals: Signals) -> Tensor:
        """How promising the position is, [B]; on the scale of `threshold`."""

    def init(self, batch_size: int, device: torch.device) -> State:
        return self.controller.init(self.threshold, batch_size, device)

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return context.limit.clamp(max=self.max_draft), state

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        if self.stop_token == "include":
            return super().admit(state, position, signals)
        return (position < self.min_draft) | self._passes(state, signals), state

    def extend(self, state: State, position: Tensor, signals: Signals, drawn: Drawn) -> tuple[Tensor, State]:
        if self.stop_token == "exclude":
            return super().extend(state, position, signals, drawn)
        return (position + 1 < self.min_draft) | self._passes(state, signals), state

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        if self.update == "fixed":
            return state
        return self.controller.learn(state, outcome, self.max_draft)

    def _passes(self, state: State, signals: Signals) -> Tensor:
        return self.score(signals) >= state.rows["threshold"]
