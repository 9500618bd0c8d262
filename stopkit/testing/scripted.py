"""A random source that takes every branch: follow a script, then note what else could have happened."""

from collections.abc import Sequence

import torch
from torch import Tensor

from stopkit.errors import InputError
from stopkit.random import RandomSource

Script = tuple[int, ...]
"""The outcomes of a row's first draws."""


class ScriptedSource(RandomSource):
    """The draws of sequence s follow `scripts[s]`; past its end they take the first outcome that can happen.

    `weights[s]` is the probability of what sequence s drew; `alternatives` holds (sequence, script) for every branch
    not taken past the scripts. Running those in turn reaches every outcome exactly once.
    """

    def __init__(self, scripts: Sequence[Script]) -> None:
        self._scripts = scripts
        self._taken: list[list[int]] = [[] for _ in scripts]
        self.weights = [1.0] * len(scripts)
        self.alternatives: list[tuple[int, Script]] = []
        self._seated = list(range(len(scripts)))

    def seat(self, row: int, sequence: int) -> None:
        self._seated[row] = sequence

    def categorical(self, probabilities: Tensor, rows: Tensor) -> Tensor:
        weights = probabilities.double()
        return self._take(weights / weights.sum(-1, keepdim=True), rows)

    def run_length(self, survival: Tensor, rows: Tensor) -> Tensor:
        survival = survival.double()
        one, zero = survival.new_ones(len(rows), 1), survival.new_zeros(len(rows), 1)
        return self._take(torch.cat([one, survival], 1) - torch.cat([survival, zero], 1), rows)

    def race(self, probabilities: Tensor, places: Sequence[int], rows: Tensor, first: int = 0) -> Tensor:
        # The second of two races at one place would depend on the first, in more ways than a script can tell.
        if probabilities.shape[1] > 1:
            raise InputError("random: scripts cannot follow drafts of the invariant coupling; use autoregressive.")
        return self.categorical(probabilities[:, 0], rows).unsqueeze(1)

    def _take(self, chances: Tensor, rows: Tensor) -> Tensor:
        outcomes = [
            self._outcome(self._seated[row], chances_of_row) if counts else 0
            for row, (chances_of_row, counts) in enumerate(zip(chances.tolist(), rows.tolist(), strict=True))
        ]
        return torch.tensor(outcomes, device=chances.device)

    def _outcome(self, sequence: int, chances: list[float]) -> int:
        script, taken = self._scripts[sequence], self._taken[sequence]
        if len(taken) < len(script):
            outcome = script[len(taken)]
            if outcome >= len(chances):
                raise InputError(
                    "random: a branch that was seen is not there again, so something decides otherwise in the same "
                    "situation; is the policy deterministic?"
                )
        else:
            outcome, *others = [at for at, chance in enumerate(chances) if chance > 0]
            self.alternatives += [(sequence, (*taken, other)) for other in others]
        self.weights[sequence] *= chances[outcome]
        taken.append(outcome)
        return outcome
