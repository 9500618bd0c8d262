"""`Decoding`: one batch being generated, as the one loop sees it. What an engine is lies below these calls."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from stopkit.block import Block, WholeStep
from stopkit.controller import DraftController
from stopkit.costs import CostModel, RoundTime
from stopkit.generation import GenerationResult
from stopkit.policy import Drawn, RoundContext, Verbs
from stopkit.signals import Signals
from stopkit.state import State
from stopkit.statistics import Stopwatch


class Proposal(NamedTuple):
    """One draft step, before anything is drawn."""

    signals: Signals
    usable: Tensor
    """[B] bool, false where there is nothing to draw from, and so the row's block ends here."""


class Commitment(NamedTuple):
    """The tokens drawn for the live rows."""

    drawn: Drawn
    more: Tensor
    """[B] bool, false where drafting on is pointless, e.g. after an end-of-sequence token."""


class Verification(NamedTuple):
    """What one target forward over the blocks of all rows decided."""

    accepted: Tensor
    """[B] long."""
    seconds: RoundTime | Tensor
    """What the round took: measured, so that costs are learned from it; [B] if the rows are engines of their own."""


class Decoding(ABC):
    """One batch being generated. `propose` and `commit` extend the block, `verify` ends the round.

    `drafted` [B] long, which all three are given, is how many tokens each row's block has so far.
    """

    sequence_count: int
    """How many sequences there are in all."""
    device: torch.device
    stopwatch: Stopwatch
    costs: CostModel
    """What drafting and verifying cost; the loop teaches it."""

    @property
    @abstractmethod
    def seated(self) -> Sequence[int]:
        """The sequence in each of the B rows that decode side by side. It may change when a round ends."""

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether every sequence has ended."""

    @abstractmethod
    def context(self) -> RoundContext:
        """What is known before the next round."""

    @abstractmethod
    def propose(self, live: Tensor, drafted: Tensor) -> Proposal:
        """One draft step for the rows in `live` (bool [B]); nothing is drawn yet."""

    @abstractmethod
    def commit(self, live: Tensor, drafted: Tensor) -> Commitment:
        """Draw the next token of the rows in `live` from the proposed distribution; they are in the block for good."""

    def step(self, verbs: Verbs, state: State, block: Block) -> WholeStep | None:
        """All of a draft step, `propose`, `admit`, `commit` and `extend`, by one call where the engine has one for it.

        None asks for the parts. Nothing has been drawn or counted then.
        """
        return None

    @abstractmethod
    def verify(self, drafted: Tensor) -> Verification:
        """One target forward over the blocks: accept, add a residual or bonus token, rewind the caches."""

    def deliver(self) -> None:  # noqa: B027 – most engines have nobody to tell
        """Hand on what the round gave, once it has been learned from; whoever is told may raise."""

    @abstractmethod
    def result(self, controller: DraftController) -> GenerationResult:
        """What has been produced so far. Can be asked at any time, and changes nothing."""
