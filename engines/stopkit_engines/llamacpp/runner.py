"""`GgufRunner`: a GGUF model over the token buffer of a batch."""

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from stopkit_engines.batch.runner import Scores, fitted
from stopkit_engines.llamacpp.batch import Span
from stopkit_engines.llamacpp.context import Context

log = logging.getLogger("stopkit")


class GgufRunner:
    """A `Runner` over a context of llama.cpp. A row that it cannot roll back is seen again from its beginning.

    `vocabulary` is the target's; `readable` is how many tokens this model can read, and `name` what users call it.
    """

    def __init__(self, contexts: Context, context: int, rows: int, vocabulary: int, readable: int, name: str) -> None:
        self.context = context
        self.filled = torch.zeros(rows, dtype=torch.long)
        self.width = 0
        self.forwards = 0
        self._memory, self._vocabulary, self._readable, self._name = contexts, vocabulary, readable, name
        self._seen = [0] * rows
        self._told = False

    def forward(self, tokens: Tensor, end: Tensor, keep: int, hidden: bool = False) -> Scores:
        """See each row of `tokens` [B, L] up to `end` [B]; the scores of a single row are llama.cpp's own memory."""
        if self._readable < self._vocabulary:
            tokens = tokens.clamp(max=self._readable - 1)
        stops = end.tolist()
        pending = [stop - seen for stop, seen in zip(stops, self._seen, strict=True)]
        scored = [min(keep, each) for each in pending]
        given = self._memory.decode(
            [
                Span(row, seen, tokens[row, seen:stop].tolist(), count)
                for row, (seen, stop, count) in enumerate(zip(self._seen, stops, scored, strict=True))
                if stop > seen
            ],
            hidden,
        )
        self.width, self._seen, self.filled = max(pending), stops, end
        self.forwards += 1
        states = None if given.hidden_state is None else _aligned(given.hidden_state, scored, keep).clone()
        return Scores(fitted(_aligned(given.logits, scored, keep), self._vocabulary), states)

    def rewind(self, agreed: Tensor) -> None:
        """Forget what was seen of each row past `agreed` [B]."""
        for row, (seen, keep) in enumerate(zip(self._seen, agreed.tolist(), strict=True)):
            if keep < seen:
                self._seen[row] = self._kept(row, keep)
        self.filled = torch.tensor(self._seen)

    def _kept(self, row: int, keep: int) -> int:
        if self._memory.forget(row, keep):
            return keep
        self._memory.forget(row, 0)
        if not self._told:
            log.warning("%s: llama.cpp cannot take back tokens here, and reads sequences again instead.", self._name)
            self._told = True
        return 0


def _aligned(given: Tensor, scored: Sequence[int], keep: int) -> Tensor:
    """Rows [N, V] as [B, keep, V]: the `scored` ones of each row come last, and what is before them has no meaning."""
    if all(count == keep for count in scored):
        return given.view(len(scored), keep, -1)
    last = torch.tensor(scored).cumsum(0).unsqueeze(1)
    return given[(last + torch.arange(-keep, 0)).clamp(min=0)]
