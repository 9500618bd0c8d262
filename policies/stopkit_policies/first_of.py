"""`first_of`: stop as soon as one of several policies would.

Every policy decides for itself; the block ends where the most cautious of them ends it. `all_of` is its opposite.

The default is what transformers does when both its rules are on: a confidence threshold within a length that adapts.
"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from stopkit import NestedPolicy, SideBySide, State, StoppingPolicy
from stopkit_policies.drawn_probability import DrawnProbability
from stopkit_policies.heuristic import Heuristic


class FirstOf(SideBySide):
    """The shortest of its policies' blocks."""

    kind: ClassVar[str] = "first_of"
    formula: ClassVar[str] = "draft while all of the policies would"

    policies: tuple[NestedPolicy, ...] = Field(
        default=(DrawnProbability(), Heuristic()), min_length=1, description="the policies that must all want a token"
    )

    @property
    def members(self) -> tuple[StoppingPolicy, ...]:
        return self.policies

    def combine(self, state: State, lengths: Tensor) -> Tensor:
        return lengths.amin(1)
