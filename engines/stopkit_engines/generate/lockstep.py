"""`Lockstep`: the steps of `generate`, a token a row and all rows together, made of tokens that come in blocks."""

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor

from stopkit.generation import Piece
from stopkit_engines.generate.records import Records


class Lockstep:
    """Takes the steps that `generate` takes, as soon as every row has the token for it.

    Stopping criteria and streamers see what they see there: all rows at one length, rows that have ended padded. A
    criterion is asked about a text only after it was verified, and what was generated past an end is left out; an end
    that depends on the text before it changes nothing of the text's law. `end` is told the row that a criterion ends.
    """

    def __init__(
        self,
        prompts: Tensor,
        criteria: Any,
        padding: Tensor | None,
        streamer: Any | None,
        records: Records | None,
        kept: Collection[str],
        end: Callable[[int], None],
    ) -> None:
        self.ids = prompts
        """[B, L + steps], as `generate` returns them."""
        self.over = False
        """Whether every row has ended."""
        self.tokens = 0
        """Tokens of the output, padding left out."""
        self.kept: dict[str, tuple[Tensor, ...]] = dict.fromkeys(kept, ())
        """The records that were asked for, "logits" or "scores", one [B, V] a step."""
        self._criteria, self._streamer, self._records, self._end = criteria, streamer, records, end
        # As there: without a token that ends a sequence, no row is padded, and all go on until the last one ends.
        pads = any(hasattr(criterion, "eos_token_id") for criterion in criteria)
        self._padding = padding.item() if pads and padding is not None else None
        self._unfinished = torch.ones(len(prompts), dtype=torch.bool, device=prompts.device)
        self._rows: list[list[int]] = [[] for _ in prompts]
        self._steps = 0

    def hear(self, piece: Piece) -> None:
        """Take what a round gave a row."""
        self._rows[piece.sequence].extend(piece.tokens)

    def go_on(self) -> None:
        """Take all steps for which there are tokens."""
        while not self.over and all(len(self._rows[row]) > self._steps for row in self._needed()):
            self._step()

    def _needed(self) -> list[int]:
        """The rows that go on."""
        if self._padding is None:
            return list(range(len(self._rows)))
        return [row for row, unfinished in enumerate(self._unfinished.tolist()) if unfinished]

    def _step(self) -> None:
        needed = self._needed()
        there = [row in needed for row in range(len(self._rows))]
        tokens = [row[self._steps] if going else self._padding for row, going in zip(self._rows, there, strict=True)]
        for name in self.kept:
            self.kept[name] += (Records.step(getattr(self._records, name), self._steps, there, self.ids.device),)
        said = torch.tensor(tokens, dtype=torch.long, device=self.ids.device)
        self.ids = torch.cat([self.ids, said.unsqueeze(1)], 1)
        self._unfinished = self._unfinished & ~self._criteria(self.ids, self.kept.get("scores"))
        self._steps += 1
        self.tokens += len(needed)
        self.over = not self._unfinished.any()
        if self._padding is not None:
            for row in set(needed) - set(self._needed()):
                self._end(row)
        if self._streamer is not None:
            self._streamer.put(said.cpu())
