"""`Common`: the tokens that two vocabularies have in common, and the way from either to the other."""

import codecs
import logging
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from stopkit.errors import InputError
from stopkit_engines.translation.vocabulary import Vocabulary

log = logging.getLogger("stopkit")

LEAST = 0.25
"""A draft that has fewer than this share of the tokens that the target writes a text in hardly ever gets two of them
accepted, and is refused."""
SAMPLE = """\
The committee will meet again on Tuesday, 14 May, because two of its members couldn't attend the first session. "I don't
think it matters," she said, "whether we decide now or later." Nobody had expected that the river would rise so quickly.
Die Prüfung dauert höchstens zwei Stunden. Il n'est pas nécessaire d'arriver à l'heure. ¿Dónde está la biblioteca?
def mean(values: list[float]) -> float:
    if not values:
        raise ValueError("no values")
    return sum(values) / len(values)  # 1.5 for [1, 2]
"""
"""By how it is written in tokens, vocabularies are compared."""


class Common:
    """The tokens of a `target` that a `draft` has, too, in models that know `sizes` tokens each, on one `device`."""

    def __init__(
        self, target: Vocabulary, draft: Vocabulary, sizes: tuple[int, int], device: torch.device | None = None
    ) -> None:
        self.target, self.draft = target, draft
        both = {target.ids[piece]: draft.ids[piece] for piece in target.ids.keys() & draft.ids.keys()}
        if target.end is not None and draft.end is not None and draft.end not in both.values():
            both.setdefault(target.end, draft.end)
        pairs = sorted(pair for pair in both.items() if pair[0] < sizes[0] and pair[1] < sizes[1])
        self.size = len(pairs)
        """How many tokens they have in common."""
        self._ours, self._theirs = torch.tensor(pairs, dtype=torch.long, device=device).view(-1, 2).unbind(1)
        self.drafts = torch.full((sizes[0],), -1, device=device).index_copy(0, self._ours, self._theirs)
        """[V] long, the draft's token for each of the target's, -1 where it has none."""
        self.reading: Sequence[int] = self.drafts.tolist()
        """The same for the host."""

    @property
    def share(self) -> float:
        """Of the tokens in which the target writes a sample text, how many are common."""
        tokens = self.target.encoded(SAMPLE)
        return sum(self.reading[token] >= 0 for token in tokens) / len(tokens)

    def __str__(self) -> str:
        of = (
            f"{self.size:,} of its {len(self.draft.pieces):,} tokens are among the target's {len(self.target.pieces):,}"
        )
        return f"{of}, {self.share:.0%} of those in a sample text"

    def require_enough(self, where: str) -> None:
        """Raise InputError if too few tokens are common for drafting to pay."""
        if self.share < LEAST:
            raise InputError(
                f"{where}: has another tokenizer than the target, and too few tokens in common: {self}, and at least "
                f"{LEAST:.0%} are needed; use a draft with the target's tokenizer."
            )

    def in_targets(self, logits: Tensor) -> Tensor:
        """Logits [B, V of the draft] as logits [B, V of the target], -inf for tokens that are not common."""
        nothing = logits.new_full((len(logits), len(self.drafts)), -torch.inf)
        return nothing.index_copy(1, self._ours, logits.index_select(1, self._theirs))

    def written(self, tokens: Sequence[int], first: bool) -> tuple[list[int], bool]:
        """The target's `tokens` as tokens of the draft, by their text, and whether that ends with a whole character.

        `first` says that a text begins with them. Special tokens that the draft has not are left out.
        """
        own = [*self.draft.beginning] if first else []
        if first and tuple(tokens[: len(self.target.beginning)]) == tuple(self.target.beginning):
            tokens = tokens[len(self.target.beginning) :]
        whole = True
        for special, run in groupby(tokens, lambda token: isinstance(self.target.pieces.get(token), str)):
            if special:
                whole = True
                own += [theirs for token in run if (theirs := self.reading[token]) >= 0]
            else:
                text, whole = _decoded(self.target.text([*run]))
                own += self._first(text) if first else self._later(text)
            first = False
        return own, whole

    def _first(self, text: str) -> list[int]:
        return self.draft.encoded(text.removeprefix(" ") if self.target.begins_with_space else text)

    def _later(self, text: str) -> list[int]:
        """The tokens of a text in the middle of another, where no space is to be added to it."""
        found = [self.draft.encoded(each) for each in (text, text.removeprefix(" "))]
        return next((tokens for tokens in found if self.draft.text(tokens) == text.encode()), found[0])


@lru_cache(maxsize=8)
def compared(target: Any, draft: Any, sizes: tuple[int, int], device: torch.device, where: str) -> Common | None:
    """What a target's and a draft's tokenizer have in common, which is told once; None if they are the same.

    Raises InputError, which names `where`, if they cannot be compared or drafting with it cannot pay.
    """
    if target.get_vocab() == draft.get_vocab():
        return None
    common = Common(Vocabulary(target, where), Vocabulary(draft, where), sizes, device)
    common.require_enough(where)
    log.warning(
        "%s: has another tokenizer than the target: it drafts with what they have in common, %s.", where, common
    )
    return common


def _decoded(text: bytes) -> tuple[str, bool]:
    """The characters of `text`, and whether it ends with a whole one; the begin of another is left out."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return decoder.decode(text), not decoder.getstate()[0]
