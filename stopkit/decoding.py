"""`Decoding`: one batch being generated, as the one loop sees it. What an engine is lies below these calls."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from stopkit.controller import DraftController
from stopkit.generation import GenerationResult
from stopkit.policy import Drawn, RoundContext
from stopkit.signals import Signals
from stopkit.statistics import Stopwatch


class Proposal(NamedTuple):
    """One draft forward, before anything is drawn."""

    signals: Signals
    usable: Tensor
    """[B] bool, false where the draft's logits were NaN or infinite: the row's block ends here."""


class Commitment(NamedTuple):
    """The tokens drawn for the live rows."""

    drawn: Drawn
    more: Tensor
    """[B] bool, false where drafting on is pointless, e.g. after an end-of-sequence token."""


class Verification(NamedTuple):
    """One verification."""

    accepted: Tensor
    """[B] long."""
    seconds: float | Tensor
    """What the round took, by the clock or by fixed costs; [B] if the rows are engines of their own."""


class Decoding(ABC):
    """One batch being generated. `propose` and `commit` extend the block, `verify` ends the round."""

    batch_size: int
    device: torch.device
    stopwatch: Stopwatch

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether every sequence has ended."""

    @abstractmethod
    def context(self) -> RoundContext:
        """What is known before the next round."""

    @abstractmethod
    def propose(self, live: Tensor) -> Proposal:
        """One draft forward for the rows in `live` (bool [B]); nothing is drawn yet."""

    @abstractmethod
    def commit(self, live: Tensor) -> Commitment:
        """Draw the next token of the rows in `live` from the proposed distribution; they are in the block for good."""

    @abstractmethod
    def verify(self) -> Verification:
        """One target forward over the blocks: accept, add a residual or bonus token, rewind the caches."""

    @abstractmethod
    def result(self, controller: DraftController) -> GenerationResult:
        """What has been produced so far; can be asked at any time."""
