"""What drafting and verifying cost, in seconds: fixed in the config, or measured as the engine runs."""

from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

Seconds = TypeVar("Seconds", float, Tensor)


class Prices(Generic[Seconds]):
    """What a round costs: one formula, for seconds that are floats and for tensors of them.

    It is linear in the length of a block but for the step from none to one.
    """

    draft_step: Seconds
    verify: Seconds
    verify_token: Seconds
    verify_block: Seconds
    first_step: Any

    @property
    def values(self) -> tuple[Seconds, ...]:
        """The prices in the order of the fields of `Costs`."""
        return self.draft_step, self.verify, self.verify_token, self.verify_block, self.drafting(1)

    @property
    def draft_cost(self) -> Seconds:
        """A draft step, in target-step times: of the verification of an empty block."""
        return self.draft_step / self.verify

    @property
    def verify_cost(self) -> Seconds:
        """What a block token adds to a verification, in target-step times."""
        return self.verify_token / self.verify

    @property
    def block_cost(self) -> Seconds:
        """What a block adds to a verification whatever its length, in target-step times."""
        return self.verify_block / self.verify

    @property
    def token(self) -> Seconds:
        """Seconds that one more token in a block costs: its draft step, and its part of the verification."""
        return self.draft_step + self.verify_token

    @property
    def block(self) -> Seconds:
        """Seconds that a block costs whatever its length, beside its tokens; less than 0 if its first step is cheap."""
        return self.verify_block + self._beginning

    @property
    def _beginning(self) -> Seconds:
        """What the first draft step takes beyond the others."""
        beyond: Seconds = self.first_step - self.draft_step
        return beyond

    def round(self, drafted: Seconds, steps: Seconds | None = None) -> Seconds:
        """Seconds of a round with a block of `drafted` tokens and `steps` draft steps; as many as tokens, if unset.

        Both are tensors of one shape where the prices are tensors.
        """
        return self.drafting(drafted if steps is None else steps) + self.verification(drafted)

    def drafting(self, steps: Any) -> Seconds:
        """Seconds of a block's draft `steps`; same shape as `steps`."""
        return self.draftings(steps, steps > 0)

    def draftings(self, steps: Any, blocks: Any) -> Seconds:
        """Seconds of `steps` draft steps in all, which began `blocks` blocks."""
        seconds: Seconds = self.draft_step * steps + self._beginning * blocks
        return seconds

    def verification(self, drafted: Seconds) -> Seconds:
        """Seconds to verify blocks of `drafted` tokens; same shape as `drafted`."""
        return self.verifications(1, drafted, drafted > 0)

    def verifications(self, rounds: Any, drafted: Any, blocks: Any) -> Seconds:
        """Seconds of the verifications of `rounds` rounds, `blocks` of which had blocks, of `drafted` tokens in all."""
        seconds: Seconds = self.verify * rounds + self.verify_token * drafted + self.verify_block * blocks
        return seconds


@dataclass(frozen=True, init=False)
class Costs(Prices[Tensor]):
    """What drafting and verifying cost, seconds: 0-dimensional float64 tensors on the engine's device."""

    draft_step: Tensor
    """One draft forward."""
    verify: Tensor
    """One target forward with an empty block."""
    verify_token: Tensor
    """What each block token adds to a target forward."""
    verify_block: Tensor
    """What a block adds to a target forward whatever its length; nothing if not given."""
    first_step: Tensor
    """The first draft forward of a block; as the others if not given."""

    def __init__(
        self,
        draft_step: Tensor,
        verify: Tensor,
        verify_token: Tensor,
        verify_block: Tensor | None = None,
        first_step: Tensor | None = None,
    ) -> None:
        vars(self).update(
            draft_step=draft_step,
            verify=verify,
            verify_token=verify_token,
            verify_block=torch.zeros_like(verify) if verify_block is None else verify_block,
            first_step=draft_step if first_step is None else first_step,
        )


class FixedCosts(BaseModel, Prices[float]):
    """Costs that do not depend on the clock, so that a run can be repeated exactly."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    draft_step: float = Field(ge=0, description="seconds of one draft forward")
    verify: float = Field(gt=0, description="seconds of one target forward with an empty block")
    verify_token: float = Field(default=0.0, ge=0, description="seconds that each block token adds to a target forward")
    verify_block: float = Field(default=0.0, ge=0, description="seconds that a block adds to it whatever its length")
    first_step: float | None = Field(
        default=None, ge=0, description="seconds of the first draft forward of a block; as the others if unset"
    )

    @property
    def _beginning(self) -> float:
        return 0.0 if self.first_step is None else self.first_step - self.draft_step


@dataclass(frozen=True)
class _Measured(Prices[float]):
    """The same as far as it is known, renewed every round."""

    draft_step: float
    verify: float
    verify_token: float
    verify_block: float
    first_step: float


class RoundTime(NamedTuple):
    """What a round took, in seconds, as whoever ran it has measured.

    With the time of a forward goes that of the host around it: to decide, to draw, to learn.
    """

    whole: float
    """From the end of the round before to the end of this one."""
    draft: float | None
    """All of its draft steps together; None if they say nothing of ordinary ones, as they read a prompt."""
    verify: float | None
    """Its target forward; None if that says nothing of ordinary ones, as it read a prompt."""
    first: float | None = None
    """The first of its draft steps, if it was told apart."""


class CostModel:
    """Keeps the costs of one engine. `fixed` wins over everything measured.

    A block's first draft step is a decayed mean, and so is one of the others, which is drawn towards the first. A
    target forward with an empty block is a decayed mean, too; with tokens in it, it is a decayed ridge-regression line
    over their number, which may lie above it. What is known of drafting fades in rounds without it: by the next block
    the machine may have become faster. Before anything is measured a draft step costs a tenth of a target step.
    """

    DECAY = 0.98
    FORGOTTEN = 1e-6
    """Measurements whose weight has faded to this are as good as never made."""
    RIDGE = 1.0
    """How strongly the line's slope is drawn towards 0, in tokens², and later draft steps towards the first, in rounds.
    Blocks of nearly one length say little about either, and one slow round among them would decide it."""
    OUTLIER = 1.5
    """A measurement counts as this many times what is known at most, since others use the machine, too."""

    def __init__(self, fixed: FixedCosts | None = None) -> None:
        self._fixed = fixed
        self._first = [0.0] * 2  # decayed sums of 1, seconds
        self._later = [0.0] * 2
        self._empty = [0.0] * 2
        self._line = [0.0] * 5  # of 1, k, k², seconds, k·seconds
        self._now: Prices[float] | None = fixed

    def saw_round(self, time: RoundTime, steps: int, drafted: int) -> None:
        """Record a round of `steps` draft steps whose longest block had `drafted` tokens."""
        known = self._known
        if time.draft is not None:
            self._saw_draft_steps(known, time.draft, steps, time.first)
        if time.verify is not None:
            self._saw_verification(known, time.verify, drafted)
        self._now = self._fixed

    def _saw_draft_steps(self, known: Prices[float], seconds: float, steps: int, first: float | None) -> None:
        before = self._first
        if first is None and steps:
            first = seconds / steps
        later = (seconds - first) / (steps - 1) if first is not None and steps > 1 else None
        self._first = self._decayed(before, *self._counted(first, before, known.drafting(1)))
        self._later = self._decayed(self._later, *self._counted(later, before, known.draft_step))

    def _saw_verification(self, known: Prices[float], seconds: float, drafted: int) -> None:
        sums = self._line if drafted else self._empty
        weight, seconds = self._counted(seconds, sums, known.verification(drafted))
        seen = [bool(drafted) * term for term in (weight, drafted, drafted**2, seconds, drafted * seconds)]
        self._line = self._decayed(self._line, *seen)
        if not drafted:
            self._empty = self._decayed(self._empty, weight, seconds)

    def costs(self, device: torch.device) -> Costs:
        """The costs as they are known now."""
        values = torch.tensor(self._known.values, dtype=torch.float64).to(device, non_blocking=True)
        return Costs(*values.unbind())

    def round_seconds(self, steps: int, drafted: int, measured: float) -> float:
        """What a round of `steps` draft steps and a block of `drafted` tokens took: `measured`, unless fixed."""
        if self._fixed is None:
            return measured
        return self._fixed.round(drafted, steps)

    def _counted(self, seconds: float | None, sums: list[float], expected: float) -> tuple[float, float]:
        """What a measurement adds to its sums; nothing if there was none."""
        if seconds is None:
            return 0.0, 0.0
        return 1.0, min(seconds, self.OUTLIER * expected) if sums[0] else seconds

    def _decayed(self, sums: list[float], *terms: float) -> list[float]:
        memory = self.DECAY if sums[0] > self.FORGOTTEN else 0.0
        return [old * memory + new for old, new in zip(sums, terms, strict=True)]

    @property
    def _known(self) -> Prices[float]:
        if self._now is None:
            n, k, kk, s, ks = self._line
            slope = max(0.0, (n * ks - k * s) / (n * kk - k * k + n * self.RIDGE)) if n else 0.0
            line = (s - slope * k) / n if n else None
            empty = self._empty[1] / self._empty[0] if self._empty[0] else line
            verify = max(1e-9, 1.0 if empty is None else empty)
            first = self._first[1] / self._first[0] if self._first[0] else verify / 10
            self._now = _Measured(
                draft_step=(self._later[1] + self.RIDGE * first) / (self._later[0] + self.RIDGE),
                verify=verify,
                verify_token=slope,
                verify_block=0.0 if line is None else max(0.0, line - verify),
                first_step=first,
            )
        return self._now
