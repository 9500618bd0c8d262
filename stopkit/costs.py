"""What drafting and verifying cost, in seconds: fixed in the config, or measured as the engine runs."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor


@dataclass(frozen=True)
class Costs:
    """A cost model, linear in the length of a block but for the step from none to one.

    All fields are 0-dimensional float64 tensors, seconds, on the engine's device.
    """

    draft_step: Tensor
    """One draft forward."""
    verify: Tensor
    """One target forward with an empty block."""
    verify_token: Tensor
    """What each block token adds to a target forward."""
    verify_block: Tensor = None  # type: ignore[assignment]
    """What a block adds to a target forward whatever its length; nothing if not given."""

    def __post_init__(self) -> None:
        if self.verify_block is None:
            object.__setattr__(self, "verify_block", torch.zeros_like(self.verify))

    def verification(self, drafted: Tensor) -> Tensor:
        """Seconds to verify blocks of `drafted` tokens; same shape as `drafted`."""
        return self.verify + self.verify_token * drafted + self.verify_block * (drafted > 0)


class FixedCosts(BaseModel):
    """Costs that do not depend on the clock, so that a run can be repeated exactly."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    draft_step: float = Field(ge=0, description="seconds of one draft forward")
    verify: float = Field(gt=0, description="seconds of one target forward with an empty block")
    verify_token: float = Field(default=0.0, ge=0, description="seconds that each block token adds to a target forward")
    verify_block: float = Field(default=0.0, ge=0, description="seconds that a block adds to it whatever its length")

    @property
    def values(self) -> tuple[float, float, float, float]:
        """In the order of the fields of `Costs`."""
        return self.draft_step, self.verify, self.verify_token, self.verify_block

    def verification(self, drafted: int) -> float:
        """Seconds to verify a block of `drafted` tokens."""
        return self.verify + self.verify_token * drafted + self.verify_block * (drafted > 0)


class RoundTime(NamedTuple):
    """What a round took, in seconds, as whoever ran it has measured."""

    whole: float
    """From the end of the round before to the end of this one."""
    draft: float | None
    """All of its draft steps together; None if they say nothing of ordinary ones, as they read a prompt."""
    verify: float | None
    """Its target forward; None if that says nothing of ordinary ones, as it read a prompt."""


class CostModel:
    """Keeps the costs of one engine. `fixed` wins over everything measured.

    A draft step is a decayed mean. So is a target forward with an empty block; with tokens in it, it is a decayed
    ridge-regression line over their number, which may lie above it. What is known of drafting fades in rounds without
    it, too: by the next block the machine may have become faster. Before anything is measured a draft step costs a
    tenth of a target step.
    """

    DECAY = 0.98
    FORGOTTEN = 1e-6
    """A weight that is none any more."""
    RIDGE = 1.0
    """Of the slope, in tokens²: blocks of nearly one length tell little of it, and a slow one among them a lie."""
    OUTLIER = 1.5
    """Times what is known: a measurement counts at most as that, since others use the machine, too."""

    def __init__(self, fixed: FixedCosts | None = None) -> None:
        self._fixed = fixed
        self._draft = [0.0] * 2  # decayed sums of 1, seconds
        self._empty = [0.0] * 2
        self._line = [0.0] * 5  # of 1, k, k², seconds, k·seconds

    def saw_round(self, time: RoundTime, steps: int, drafted: int) -> None:
        """Record a round of `steps` draft steps whose longest block had `drafted` tokens."""
        if time.draft is not None:
            self.saw_draft_steps(time.draft, steps)
        if time.verify is not None:
            self.saw_verification(time.verify, drafted)

    def saw_draft_steps(self, seconds: float, steps: int) -> None:
        """Record a round's `steps` draft steps, which took `seconds` together."""
        seen = (1.0, self._likely(seconds / steps, self._draft, self._known.draft_step)) if steps else (0.0, 0.0)
        self._draft = self._decayed(self._draft, *seen)

    def saw_verification(self, seconds: float, drafted: int) -> None:
        """Record one target forward over a block of `drafted` tokens."""
        seconds = self._likely(seconds, self._line if drafted else self._empty, self._known.verification(drafted))
        seen = [bool(drafted) * term for term in (1.0, drafted, drafted**2, seconds, drafted * seconds)]
        self._line = self._decayed(self._line, *seen)
        if not drafted:
            self._empty = self._decayed(self._empty, 1.0, seconds)

    def costs(self, device: torch.device) -> Costs:
        """The costs as they are known now."""
        values = torch.tensor(self._known.values, dtype=torch.float64).to(device, non_blocking=True)
        return Costs(*values.unbind())

    def round_seconds(self, steps: int, drafted: int, measured: float) -> float:
        """What a round of `steps` draft steps and a block of `drafted` tokens took: `measured`, unless fixed."""
        if self._fixed is None:
            return measured
        return self._fixed.draft_step * steps + self._fixed.verification(drafted)

    def _likely(self, seconds: float, sums: list[float], expected: float) -> float:
        return min(seconds, self.OUTLIER * expected) if sums[0] else seconds

    def _decayed(self, sums: list[float], *terms: float) -> list[float]:
        memory = self.DECAY if sums[0] > self.FORGOTTEN else 0.0
        return [old * memory + new for old, new in zip(sums, terms, strict=True)]

    @property
    def _known(self) -> FixedCosts:
        if self._fixed:
            return self._fixed
        n, k, kk, s, ks = self._line
        slope = max(0.0, (n * ks - k * s) / (n * kk - k * k + n * self.RIDGE)) if n else 0.0
        line = (s - slope * k) / n if n else None
        empty = self._empty[1] / self._empty[0] if self._empty[0] else line
        verify = max(1e-9, 1.0 if empty is None else empty)
        step = self._draft[1] / self._draft[0] if self._draft[0] else verify / 10
        block = 0.0 if line is None else max(0.0, line - verify)
        return FixedCosts(draft_step=step, verify=verify, verify_token=slope, verify_block=block)
