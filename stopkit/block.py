"""`Block`: what is being drafted, and what a policy's verbs make of it at a draft step, as functions of tensors alone.

`DraftController` calls them a verb at a time; an engine may have a whole draft step with them in it as one function.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from stopkit.policy import Drawn, Verbs
from stopkit.signals import Signals
from stopkit.state import State


class Block(NamedTuple):
    """The tokens that a round drafts, by rows."""

    live: Tensor
    """[B] bool, the rows that draft on."""
    drafted: Tensor
    """[B] long, the tokens in each row's block."""
    cap: Tensor
    """[B] long, the most that there may be."""


class WholeStep(NamedTuple):
    """A draft step with the policy's verbs in it."""

    signals: Signals
    """What `admit` was shown."""
    drawn: Drawn
    """What `extend` was shown; without meaning in rows that drew nothing."""
    block: Block
    state: State
    drew: bool
    """Whether any row drew a token."""
    goes_on: bool
    """Whether any row drafts on."""


def admitted(
    verbs: Verbs, state: State, block: Block, signals: Signals, usable: Tensor | None = None
) -> tuple[Block, State]:
    """Decide on the next position of the live rows; those of the block that is returned are to draw its token.

    Rows where `usable` (bool [B]) is false stop here, unasked. Raises TypeError for what is no decision.
    """
    asked = block.live if usable is None else block.live & usable
    admits, new = verbs.admit(state, block.drafted.clone(), signals)  # a copy: writing into it reaches nothing
    live = asked & decision(admits, torch.bool, block.drafted)
    return block._replace(live=live), kept(new, state, asked)


def extended(
    verbs: Verbs,
    state: State,
    block: Block,
    signals: Signals,
    drawn: Drawn,
    more: Tensor | None = None,
    alone: bool = False,
) -> tuple[Block, State]:
    """Let the live rows have drawn a token; those of the block that is returned draft on.

    Rows where `more` (bool [B]) is false do not. `alone` says that there is one row, and that it is live. Raises
    TypeError for what is no decision.
    """
    extends, new = verbs.extend(state, block.drafted.clone(), signals, drawn)
    drafted = block.drafted + block.live
    live = block.live & decision(extends, torch.bool, drafted) & (drafted < block.cap)
    live = live if more is None else live & more
    return Block(live, drafted, block.cap), kept(new, state, None if alone else block.live)


def kept(new: State, old: State, rows: Tensor | None) -> State:
    """The `new` state of `rows`, None for all; others were shown values without meaning and keep the `old` one."""
    if new is old:
        return old
    return new.instead_of(old) if rows is None else new.where(rows, old)


def decision(value: Tensor, dtype: torch.dtype, like: Tensor) -> Tensor:
    """`value`, which is over the same rows as `like` [B]. Raises TypeError if it is not."""
    if not isinstance(value, Tensor):
        raise TypeError(f"returned {type(value).__name__} as its decision, not a tensor over the rows")
    if value.dtype != dtype or value.shape != like.shape or value.device != like.device:
        got, wanted = _form(value, value.dtype), _form(like, dtype)
        raise TypeError(f"returned a decision of {got}; it must be {wanted}")
    return value


def _form(tensor: Tensor, dtype: torch.dtype) -> str:
    return f"{dtype} {list(tensor.shape)} on {tensor.device}"
