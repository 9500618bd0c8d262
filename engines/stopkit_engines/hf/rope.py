"""Rotary embeddings whose factors change with the length of the longest sequence of a forward.

Such a model (longrope: Phi-3 and later of 128k tokens) has two sets of factors, and transformers takes the one or the
other for all rows of a forward. What was cached under one set does not go with the other. So a sequence has to stay on
one side of the switch, and sequences on different sides cannot be beside each other.
"""

import sys
from collections.abc import Sequence
from typing import Any

from stopkit.errors import InputError


def switch(config: Any) -> int | None:
    """The most tokens that are read with the short factors; None if factors never change."""
    parameters = getattr(config, "rope_parameters", None) or {}
    nested = [block for block in parameters.values() if isinstance(block, dict)] or [parameters]
    for block in nested:
        if block.get("rope_type", block.get("type")) == "longrope":
            original = block.get("original_max_position_embeddings")
            return int(original or getattr(config, "original_max_position_embeddings", config.max_position_embeddings))
    return None


def sides(config: Any, prompts: Sequence[int], rooms: Sequence[int], where: str) -> set[bool]:
    """On which sides of the switch these sequences are: whether the short factors are theirs.

    `prompts` are their lengths, and `rooms` how many tokens each may gain. Raises InputError for one that may cross.
    """
    most = switch(config) or sys.maxsize
    for index, (length, room) in enumerate(zip(prompts, rooms, strict=True)):
        if length <= most < length + room:
            raise InputError(
                f"{where}: the rotary factors of this {config.model_type} model change at {most} tokens (longrope), "
                f"and prompts[{index}] of {length} tokens may grow to {length + room}; set max_new_tokens to "
                f"{most - length} or less, or give a prompt of more than {most} tokens."
            )
    return {length <= most for length in prompts}
