"""`entropy_gate`: K tokens a round while the target is sure of itself, none while it is not.

Rule: E = (1 − α)·E + α·H every round, H the target's entropy where it gave the last token. The gate closes when E
exceeds `high` and opens when E falls below `low`; between them it stays as it is, so that it does not flutter.

Source: proposals for serving engines (vLLM issue 54082, SGLang issue 36715, llama.cpp issue 27821), with their K = 5
and α = 0.35.

Choices: H is taken once a round, of the distribution that is sampled; the proposals take it at every token. The
thresholds are 1 and 2 bits. The gate is open until the target has said something, and E begins with what that was.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from stopkit import RoundContext, State, StoppingPolicy

BIT = 0.6931471805599453
"""A bit in nats."""
NONE_YET = -1.0


class EntropyGate(StoppingPolicy):
    """A constant draft length, switched off where the target hesitates."""

    kind: ClassVar[str] = "entropy_gate"
    context: ClassVar[frozenset[str]] = frozenset({"entropy"})
    formula: ClassVar[str] = "cap = K; 0 from EMA(H) > high until EMA(H) < low, H the target's entropy"
    source: ClassVar[str] = "vLLM issue 54082, SGLang issue 36715, llama.cpp issue 27821"

    length: int = Field(default=5, ge=0, le=1024, description="K, tokens to draft while the gate is open")
    smoothing: float = Field(default=0.35, gt=0, le=1, description="α, weight of the newest entropy")
    low: float = Field(default=BIT, ge=0, le=20, description="below this the gate opens, nats")
    high: float = Field(default=2 * BIT, ge=0, le=20, description="above this the gate closes, nats")

    def init(self, batch_size: int, device: torch.device) -> State:
        smoothed = torch.full((batch_size,), NONE_YET, dtype=torch.float64, device=device)
        return State(rows={"smoothed": smoothed, "open": torch.ones(batch_size, dtype=torch.bool, device=device)})

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        before, told = state.rows["smoothed"], ~context.entropy.isnan()
        entropy = context.entropy.double().nan_to_num(0.0)
        smoothed = torch.lerp(before, entropy, self.smoothing).where(before >= 0, entropy).where(told, before)
        opened = (smoothed <= self.high).where(state.rows["open"], smoothed < self.low)
        length = torch.where(opened, self.length, 0)
        return torch.minimum(length, context.limit), State(rows={"smoothed": smoothed, "open": opened})
