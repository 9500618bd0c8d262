"""`TranslatedDraft`: a model with another tokenizer drafts, with the tokens that both vocabularies have."""

import sys

import torch
from torch import Tensor

from stopkit_engines.batch.draft_source import ModelDraft, Offer
from stopkit_engines.batch.room import enlarged, roomier
from stopkit_engines.batch.runner import Runner
from stopkit_engines.translation.common import Common
from stopkit_engines.translation.reading import Reading


class TranslatedDraft:
    """A `DraftSource`: `runner` reads each row in its own tokens, and its logits become the target's.

    What it proposes has q = 0 for every token that is not common, so q is renormalised over those that are, and is
    what tokens are drawn from and judged by: the output has the target's law whatever the vocabularies. A row that ends
    within a character, or that is longer than the draft's context, gets no proposal.
    """

    context = sys.maxsize

    def __init__(self, runner: Runner, common: Common) -> None:
        self._draft, self._common = ModelDraft(runner), common
        rows, device = len(runner.filled), runner.filled.device
        self._readings = [Reading(common) for _ in range(rows)]
        self._tokens = torch.zeros(rows, 0, dtype=torch.long, device=device)
        self._length = torch.zeros(rows, dtype=torch.long, device=device)
        self._whole = torch.zeros(rows, dtype=torch.bool, device=device)
        self._logits = torch.full((rows, len(common.drafts)), -torch.inf, device=device)
        self._hidden: Tensor | None = None
        self._steps = 0  # of this round

    @property
    def forwards(self) -> int:
        return self._draft.forwards

    @property
    def steady(self) -> bool:
        return self._draft.steady

    def propose(self, tokens: Tensor, length: Tensor, drafted: Tensor, live: Tensor, hidden: bool) -> Offer:
        if self._steps == 0:
            self._read(tokens, length, live)
        else:
            self._follow(tokens, length, drafted)
        self._steps += 1
        read = live & (self._length > 0) & (self._length + drafted <= self._draft.context)
        if read.any():
            logits, _, self._hidden = self._draft.propose(self._tokens, self._length, drafted, read, hidden)
            self._logits = self._common.in_targets(logits)
        return Offer(self._logits, read & self._whole, self._hidden)

    def rewind(self, agreed: Tensor) -> None:
        self._steps = 0  # what has been seen stands as far as it is read again

    def _read(self, tokens: Tensor, length: Tensor, live: Tensor) -> None:
        """Read what the `live` rows say now, and forget what was seen of them that they do not say."""
        lengths, asked = torch.stack([length, live.long()]).tolist()
        rows = tokens[:, : max(lengths)].tolist()
        for reading, row, count, wanted in zip(self._readings, rows, lengths, asked, strict=True):
            if wanted:
                reading.read(row[:count])
        counts = [len(reading.tokens) for reading in self._readings]
        longest = max(counts)
        padded = [reading.tokens + [0] * (longest - len(reading.tokens)) for reading in self._readings]
        told = [(count, reading.whole) for count, reading in zip(counts, self._readings, strict=True)]
        now = torch.tensor(padded, dtype=torch.long, device=live.device).view(len(rows), longest)
        self._length, whole = torch.tensor(told, device=live.device).unbind(1)
        self._whole = whole.bool()
        self._make_room(longest)
        there = torch.arange(longest, device=live.device) < self._length.unsqueeze(1) - 1  # one is to be seen, at least
        same = (now == self._tokens[:, :longest]) & there
        self._draft.rewind(same.long().cumprod(1).sum(1))
        self._tokens[:, :longest] = now

    def _follow(self, tokens: Tensor, length: Tensor, drafted: Tensor) -> None:
        """Write the token that was drafted last behind the others."""
        self._make_room(int(self._tokens.shape[1] and self._length.max()) + self._steps)
        place = (self._length + drafted - 1).clamp(min=0).unsqueeze(1)
        last = tokens.gather(1, (length + drafted - 1).unsqueeze(1))
        own = self._common.drafts[last].clamp(min=0)
        self._tokens.scatter_(1, place, own.where(drafted.unsqueeze(1) > 0, self._tokens.gather(1, place)))

    def _make_room(self, tokens: int) -> None:
        self._tokens = enlarged(self._tokens, 1, roomier(tokens + 1, self._tokens.shape[1]))
