"""`early_exit`: the target's first layers draft, with its final norm and head.

Source: Elhoushi et al., *LayerSkip: Enabling Early Exit Inference and Self-Speculative Decoding*, 2024
(arXiv:2404.16710). As there, weights and cache are the target's own. What verification computes of the first layers it
computes anew.
"""

from typing import Literal

from pydantic import Field

from stopkit_engines.batch.draft_block import DraftBlock


class EarlyExit(DraftBlock):
    """Drafts with the first layers of the target. It costs no memory, and pays for a target that was trained for it."""

    kind: Literal["early_exit"] = Field(default="early_exit", description="drafts with the target's first layers")
    layers: int = Field(ge=1, description="how many of the target's layers draft, fewer than it has")
