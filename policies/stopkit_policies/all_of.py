"""`all_of`: stop only when all of several policies would.

Every policy decides for itself, and one that has stopped stays stopped for the round; the block ends where the
boldest of them ends it. `first_of` is its opposite.

The default drafts two tokens, and more while the draft is sure.
"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from stopkit import NestedPolicy, SideBySide, State, StoppingPolicy
from stopkit_policies.max_probability import MaxProbability
from stopkit_policies.static import Static


class AllOf(SideBySide):
    """The longest of its policies' blocks."""

    kind: ClassVar[str] = "all_of"
    formula: ClassVar[str] = "draft while any of the policies would"

    policies: tuple[NestedPolicy, ...] = Field(
        default=(Static(length=2), MaxProbability()),
        min_length=1,
        description="the policies of which one must want a token",
    )

    @property
    def members(self) -> tuple[StoppingPolicy, ...]:
        return self.policies

    def combine(self, state: State, lengths: Tensor) -> Tensor:
        return lengths.amax(1)
