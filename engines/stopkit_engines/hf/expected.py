"""What a model says without a cache, at every step of a trial: by one plain forward, since a causal model says after a
token what it says there of any longer text.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stopkit_engines.hf.forward import vocabulary_size

TOKENS = 1000
"""Tokens are drawn from so many at most."""


class Plan(NamedTuple):
    """What a trial runs: prompts, then a block of which one token is accepted, one of which none is, and one of which
    all are, then a single token.
    """

    lengths: tuple[int, ...]
    """Tokens of the prompts, one a row."""
    block: int
    """Tokens of a block."""

    @property
    def accepted(self) -> tuple[int, ...]:
        """How many tokens of each block are."""
        return 1, 0, self.block

    @property
    def total(self) -> int:
        """Tokens of the longest row in the end."""
        return max(self.lengths) + sum(1 + accepted for accepted in self.accepted) + 1


PLANS = (Plan((6, 3), block=3), Plan((2, 1), block=1))
"""The longer one, and one for models of a short context."""


class Step(NamedTuple):
    """One forward of a trial, and what it has to give."""

    what: str
    tokens: Tensor
    """[B, L]; the forward sees each row up to its `end` [B]."""
    end: Tensor
    keep: int
    """Positions whose logits are compared, the last ones."""
    agreed: Tensor
    """[B], how much is kept of each row then."""
    logits: Tensor
    """[B, keep, V], float64."""


class Differs(Exception):
    """The model says something else than it should."""


class Expected:
    """What `model` says without a cache, and how much of that is rounding. Raises Differs if it is not causal."""

    def __init__(self, model: Any, plan: Plan = PLANS[0]) -> None:
        right, rejected = _drawn(model, plan)
        forwards = list(_forwards(plan, right, rejected))
        logits = _plain(model, torch.cat([tokens for _, tokens, *_ in forwards]))
        # A row by itself, and one that is cut short, differ from it by rounding alone.
        alone, short = _plain(model, right[:1])[0], _plain(model, right[:1, : plan.lengths[0]])[0]
        ahead = float((short - logits[0, : plan.lengths[0]]).abs().max())
        noise = max(ahead, float((alone - logits[0]).abs().max()))
        spread = float((logits.amax(-1) - logits.amin(-1)).max()) or float(logits.abs().max())
        eps = torch.finfo(model.dtype).eps
        self.tolerance = spread * eps ** (2 / 3) + min(8 * noise, spread * eps**0.5)
        """How far logits may be off."""
        self.sound = bool(logits.isfinite().all())
        """Whether they can be compared at all."""
        if ahead > self.tolerance and self.sound:
            raise Differs("what it says after a token depends on those that follow, so it is not causal (is_decoder?)")
        parts = zip(forwards, torch.split(logits, len(right)), strict=True)
        self.steps = [Step(*forward, _last(part, forward[2], forward[3])) for forward, part in parts]


def _drawn(model: Any, plan: Plan) -> tuple[Tensor, Tensor]:
    """Tokens [B, L] that are said, and others that are proposed in their place and rejected."""
    padding = getattr(model.config.get_text_config(), "pad_token_id", None)
    usable = [token for token in range(min(vocabulary_size(model), TOKENS)) if token != padding] or [0]
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(usable), (2, len(plan.lengths), plan.total), generator=generator)
    said, rejected = torch.tensor(usable)[drawn].to(model.device)
    return said, rejected


def _forwards(plan: Plan, right: Tensor, rejected: Tensor) -> Iterator[tuple[str, Tensor, Tensor, int, Tensor]]:
    """What each step is called, its tokens, up to where they are seen, how many are compared, and what is agreed on."""
    places = torch.arange(plan.total, device=right.device)
    length = torch.tensor(plan.lengths, device=right.device)
    yield "after the prompt", right, length, 1, length
    for accepted in plan.accepted:
        agreed = length + 1 + accepted
        block = rejected.where(places >= agreed.unsqueeze(1), right)
        yield f"in a block of which {accepted} are accepted", block, length + 1 + plan.block, 1 + plan.block, agreed
        length = agreed
    yield "after a single token", right, length + 1, 1, length + 1


def _plain(model: Any, tokens: Tensor) -> Tensor:
    logits: Tensor = model(input_ids=tokens, use_cache=False).logits
    return logits.double()


def _last(logits: Tensor, end: Tensor, keep: int) -> Tensor:
    """The `keep` positions [B, keep, V] before each row's `end`."""
    places = end.unsqueeze(1) + torch.arange(-keep, 0, device=end.device)
    return logits[torch.arange(len(end), device=end.device).unsqueeze(1), places]
