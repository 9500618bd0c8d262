"""`prompt_lookup`: the row's own text drafts. Where its last tokens stood before, what followed is proposed again.

Source: Saxena, *Prompt Lookup Decoding*, 2023 (github.com/apoorvumang/prompt-lookup-decoding). As there, a longer match
counts more than a shorter one. Of its places the last one counts here, as text resembles what stands close to it.
"""

import sys
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from stopkit.errors import InputError
from stopkit_engines.batch.draft_block import DraftBlock
from stopkit_engines.batch.draft_source import Offer


class PromptLookup(DraftBlock):
    """Drafts what followed the last tokens where they stood before; without such a place it drafts nothing."""

    kind: Literal["prompt_lookup"] = Field(default="prompt_lookup", description="drafts from the sequence's own text")
    longest: int = Field(default=3, ge=1, le=64, description="most last tokens that are looked for")
    most: int = Field(default=10, ge=1, le=1024, description="most tokens a block")


class LookupDraft:
    """A `PromptLookup` at work. It proposes one token with certainty, and runs no model."""

    context = sys.maxsize
    forwards = 0
    steady = True

    def __init__(self, block: PromptLookup, vocabulary: int) -> None:
        self._block, self._vocabulary = block, vocabulary

    def propose(self, tokens: Tensor, length: Tensor, drafted: Tensor, live: Tensor, hidden: bool) -> Offer:
        if hidden:
            raise InputError("the policy reads hidden_state, and prompt_lookup has none; let a model draft.")
        end = length + drafted
        text = tokens[:, : int(end.max())]
        place = torch.arange(text.shape[1], device=tokens.device)
        same = place < end.unsqueeze(1) - 1  # the last token itself is followed by nothing yet
        source = torch.full_like(end, -1)
        for back in range(self._block.longest):
            token = text.gather(1, (end - 1 - back).clamp(min=0).unsqueeze(1))
            same = same & (place >= back) & (text.roll(back, 1) == token)
            latest = place.where(same, -1).amax(1)
            source = latest.where(latest >= 0, source)
        token = text.gather(1, (source + 1).unsqueeze(1))
        nothing = torch.full((len(end), self._vocabulary), -torch.inf, device=tokens.device)
        return Offer(nothing.scatter(1, token, 0.0), (source >= 0) & (drafted < self._block.most))

    def rewind(self, agreed: Tensor) -> None:
        pass
