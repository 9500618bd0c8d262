"""`first_of`: stop as soon as one of several policies would.

Every policy decides for itself; the block ends where the most cautious of them ends it. `all_of` is its opposite.
"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from stopkit import NestedPolicy, SideBySide, State, StoppingPolicy
from stopkit_policies.adaedl import AdaEDL
from stopkit_policies.max_probability import MaxProbability


class FirstOf(SideBySide):
    """The shortest of its policies' blocks."""

    kind: ClassVar[str] = "first_of"
    formula: ClassVar[str] = "draft while all of the policies would"

    policies: tuple[NestedPolicy, ...] = Field(
        default=(AdaEDL(), MaxProbability()), min_length=1, description="the policies that must all want a token"
    )

    @property
    def members(self) -> tuple[StoppingPolicy, ...]:
        return self.policies

    def combine(self, state: State, lengths: Tensor) -> Tensor:
        return lengths.amin(1)
