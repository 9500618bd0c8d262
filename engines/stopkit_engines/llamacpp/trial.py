"""The trial: whether a model that forgot tokens goes on as one that never saw them, and how it forgets."""

from collections.abc import Callable

import torch

from stopkit.errors import InputError
from stopkit_engines.batch.runner import Runner

LENGTHS, BLOCK, KEPT = (9, 6), 4, 1
"""Tokens of two rows, and how many of a block that they are given then are kept."""
CLOSE = 0.05
"""Total variation distance: what widths of a batch and half precision change is less, another place is far more."""


@torch.inference_mode()
def way(runner: Callable[[], Runner], vocabulary: int, widths: tuple[int, ...], where: str) -> str:
    """How the model of these runners takes back a block that it has seen in forwards of such `widths`.

    Raises InputError where it says something else after that than a new runner does.
    """
    used, fresh = runner(), runner()
    longest = max(LENGTHS) + BLOCK
    tokens = (torch.arange(2 * longest).view(2, -1) * 7919 + 1) % vocabulary
    begin = torch.tensor(LENGTHS)
    used.forward(tokens, begin, keep=1)
    for seen in torch.tensor(widths).cumsum(0).tolist():
        used.forward(tokens, begin + seen, keep=1)
    kept = begin + KEPT
    used.rewind(kept)
    forgot = used.filled.equal(kept)
    for row, end in enumerate(kept.tolist()):
        tokens[row, end:] = tokens[row, :1]
    said, wanted = (each.forward(tokens, kept + 1, keep=1).logits.softmax(-1) for each in (used, fresh))
    distance = float((said - wanted).abs().sum(-1).amax()) / 2
    if not distance <= CLOSE:
        raise InputError(
            f"{where}: after tokens that were taken back it says something else than without them (total variation "
            f"distance {distance:.2g}); use another model, or another version of llama-cpp-python."
        )
    return "takes tokens back" if forgot else "reads again what it cannot take back"
