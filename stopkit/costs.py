"""What drafting and verifying cost, in seconds: fixed in the config, or measured as the engine runs."""

from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor


@dataclass(frozen=True)
class Costs:
    """A linear cost model. All fields are 0-dimensional float64 tensors, seconds, on the engine's device."""

    draft_step: Tensor
    """One draft forward."""
    verify: Tensor
    """One target forward with an empty block."""
    verify_token: Tensor
    """What each block token adds to a target forward."""

    def verification(self, drafted: Tensor) -> Tensor:
        """Seconds to verify blocks of `drafted` tokens; same shape as `drafted`."""
        return self.verify + self.verify_token * drafted


class FixedCosts(BaseModel):
    """Costs that do not depend on the clock, so that a run can be repeated exactly."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    draft_step: float = Field(ge=0, description="seconds of one draft forward")
    verify: float = Field(gt=0, description="seconds of one target forward with an empty block")
    verify_token: float = Field(default=0.0, ge=0, description="seconds that each block token adds to a target forward")


class CostModel:
    """Keeps the costs of one engine. `fixed` wins over everything measured.

    The draft step is a decayed mean; verification is a decayed least-squares line over block length. Before anything
    is measured a draft step costs a tenth of a target step.
    """

    DECAY = 0.98

    def __init__(self, fixed: FixedCosts | None = None) -> None:
        self._fixed = fixed
        self._draft_weight, self._draft_sum = 0.0, 0.0
        self._line = [0.0] * 5  # decayed sums of 1, k, k², seconds, k·seconds

    def saw_draft_steps(self, seconds: float, steps: int) -> None:
        """Record `steps` draft forwards that took `seconds` together."""
        if steps:
            self._draft_weight = self._draft_weight * self.DECAY + 1
            self._draft_sum = self._draft_sum * self.DECAY + seconds / steps

    def saw_verification(self, seconds: float, drafted: int) -> None:
        """Record one target forward over a block of `drafted` tokens."""
        terms = (1.0, drafted, drafted**2, seconds, drafted * seconds)
        self._line = [old * self.DECAY + new for old, new in zip(self._line, terms, strict=True)]

    def costs(self, device: torch.device) -> Costs:
        """The costs as they are known now."""
        values = torch.tensor(self._values(), dtype=torch.float64).to(device, non_blocking=True)
        return Costs(*values.unbind())

    def round_seconds(self, steps: int, drafted: int, measured: float) -> float:
        """What a round of `steps` draft forwards and a block of `drafted` tokens took: `measured`, unless fixed."""
        if self._fixed is None:
            return measured
        return self._fixed.draft_step * steps + self._fixed.verify + self._fixed.verify_token * drafted

    def _values(self) -> tuple[float, float, float]:
        if self._fixed:
            return self._fixed.draft_step, self._fixed.verify, self._fixed.verify_token
        n, k, kk, s, ks = self._line
        spread = n * kk - k * k
        slope = max(0.0, (n * ks - k * s) / spread) if spread > 1e-9 * max(1.0, n * n) else 0.0
        base = max(1e-9, (s - slope * k) / n) if n else 1.0
        step = self._draft_sum / self._draft_weight if self._draft_weight else base / 10
        return step, base, slope
