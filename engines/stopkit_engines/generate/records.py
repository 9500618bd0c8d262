"""The target's logits at every token of the output, for callers who ask for them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from stopkit.coupling import Coupling
from stopkit.sampling import Sampling
from stopkit_engines.batch.steps import Place, Process, Steps, Verified


@dataclass
class Records:
    """What the target said before each token of the output, by sequence."""

    logits: list[list[Tensor]]
    """[V] float32, as the model gives them."""
    scores: list[list[Tensor]]
    """[V] float32, what logits processors made of them."""
    seated: Sequence[int] = field(default_factory=list)
    """The sequence in each row of the batch."""

    def take(self, raw: Tensor, left: Tensor, where: Place, accepted: Tensor) -> None:
        """Keep what belongs to the accepted tokens and the own token of each row; raw and left are [B, K + 1, V]."""
        for row, (kept, active) in enumerate(zip(accepted.tolist(), where.rows.tolist(), strict=True)):
            if active:
                sequence = self.seated[row]
                self.logits[sequence].extend(raw[row, : kept + 1].float().clone())
                self.scores[sequence].extend(left[row, : kept + 1].float().clone())

    @staticmethod
    def step(records: list[list[Tensor]], number: int, rows: Sequence[bool], device: torch.device) -> Tensor:
        """The records [B, V] of one step; zeros for rows that have no part in it."""
        nothing = torch.zeros_like(next(each for row in records for each in row))
        taken = [kept[number] if there else nothing for kept, there in zip(records, rows, strict=True)]
        return torch.stack(taken).to(device)


class RecordingSteps(Steps):
    """Steps that tell `records` of what the target says."""

    def __init__(self, records: Records, sampling: Sampling, coupling: Coupling, signals: Collection[str]) -> None:
        super().__init__(sampling, coupling, signals)
        self._records = records

    def verify(
        self,
        logits: Tensor,
        block: Tensor,
        where: Place,
        tokens: Tensor,
        length: Tensor,
        drafted: Tensor,
        process: Process | None = None,
    ) -> Verified:
        scored: list[tuple[Tensor, Tensor]] = []

        def processed(raw: Tensor) -> Tensor:
            left = raw if process is None else process(raw)
            scored.append((raw, left))
            return left

        verified = super().verify(logits, block, where, tokens, length, drafted, processed)
        for raw, left in scored:
            self._records.take(raw, left, where, verified.accepted)
        return verified
