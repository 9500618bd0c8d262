"""`ema_length`: a few draft lengths, and a smoothed accepted length that says which.

Rule, with the candidate lengths in order and EMA = 0.8·EMA + 0.2·accepted every round: at every fifth round after the
first ten, step down while EMA ≤ previous candidate − 0.75 (0.25 before length 0); if that moved nothing, step up
while EMA > current − 0.5. From length 0 it steps up to find out; an EMA below 0 then begins anew at one less than the
candidate.

Source: adaptive speculation in SGLang (`adaptive_spec_params.py`), with its defaults for one sequence: candidates 1,
3, 5, 7, beginning in the middle, the EMA at one less.

Choices: what is learned is shared by all sequences and carried over, as in a server; the accepted length is then the
mean over the sequences of the batch. A round that drafts nothing counts only where 0 was the length.
"""

from typing import Annotated, ClassVar

import torch
from pydantic import Field, field_validator
from torch import Tensor

from stopkit import CarryOver, RoundContext, RoundOutcome, State, StoppingPolicy

Length = Annotated[int, Field(ge=0, le=1024)]


class EMALength(StoppingPolicy):
    """Candidate lengths, chosen by an exponential moving average of the accepted length."""

    kind: ClassVar[str] = "ema_length"
    formula: ClassVar[str] = "step down while EMA ≤ previous − 0.75, else up while EMA > current − 0.5"
    source: ClassVar[str] = "SGLang, adaptive_spec_params.py"

    lengths: tuple[Length, ...] = Field(
        default=(1, 3, 5, 7), min_length=1, description="candidate draft lengths, tokens (0 … 1024), in any order"
    )
    smoothing: float = Field(default=0.2, gt=0, le=1, description="weight of the newest accepted length in the EMA")
    update_every: int = Field(default=5, ge=1, le=1024, description="rounds from one decision to the next")
    warmup: int = Field(default=10, ge=0, le=1024, description="rounds before decisions are made")
    down: float = Field(default=-0.25, ge=-1024, le=1024, description="moves the mark for stepping down, tokens")
    up: float = Field(default=0.0, ge=-1024, le=1024, description="moves the mark for stepping up, tokens")
    carry_over: CarryOver = True

    @field_validator("lengths")
    @classmethod
    def _ascending(cls, lengths: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(lengths)))

    def init(self, batch_size: int, device: torch.device) -> State:
        length = self.lengths[len(self.lengths) // 2]
        return State.learned(batch_size, device, shared=self.carry_over, length=length, ema=length - 1, rounds=0)

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return torch.minimum(state["length"].long(), context.limit), state

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        counts = outcome.context.active & ((outcome.drafted > 0) | (state["length"] == 0))
        ema = torch.lerp(state["ema"], outcome.accepted.double(), self.smoothing)
        learned = state.moved(counts, ema=ema.where(state["length"] > 0, state["ema"]), rounds=state["rounds"] + 1)
        since = learned["rounds"] - self.warmup
        decides = (learned["rounds"] != state["rounds"]) & (since > 0) & (since % self.update_every == 0)
        length, ema = self._step(state["length"], learned["ema"])
        return learned.put(length=length.where(decides, state["length"]), ema=ema.where(decides, learned["ema"]))

    def _step(self, current: Tensor, ema: Tensor) -> tuple[Tensor, Tensor]:
        """The length after `current`, and the EMA to go on with, each [B]."""
        pairs = list(zip(self.lengths, self.lengths[1:], strict=False))
        lower = higher = current
        for below, above in reversed(pairs):
            lower = torch.where((lower == above) & (ema <= max(below, 1) - 0.5 + self.down), below, lower)
        for below, above in pairs:
            higher = torch.where((higher == below) & (ema > below - 0.5 + self.up), above, higher)
        length = lower.where(lower < current, higher)
        if self.lengths[0] > 0 or len(self.lengths) == 1:
            return length, ema
        probe = self.lengths[1]
        idle = current == 0
        begins = idle & (ema < 0)
        return torch.where(idle, probe, length), torch.where(begins, probe - 1.0, ema)
