"""The network of SpecDec++ (arXiv 2405.19715) and the file that it lives in.

A file is safetensors: the weights by name, and in its metadata a card that says what they were trained on. Nothing in
it is code.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from stopkit.files import replacing

FORMAT = "stopkit acceptance head"
VERSION = "1"
PICKLES = (b"\x80", b"PK\x03\x04")
"""How a pickle begins, and the archive that `torch.save` puts one in."""


class HeadNetwork(nn.Module):
    """Residual blocks x + SiLU(W·x + b) over the hidden state, then one logit.

    In the source's code one block is applied `layers` times; here each has weights of its own.
    """

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.width = width
        """Numbers of a hidden state."""
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.out = nn.Linear(width, 1)

    def forward(self, hidden_state: Tensor) -> Tensor:
        """The logit of the acceptance probability, [...], of hidden states [..., D]."""
        x = hidden_state.to(self.out.weight.dtype)
        for block in self.blocks:
            x = x + nn.functional.silu(block(x))
        return self.out(x).squeeze(-1)  # type: ignore[no-any-return]


def save_head(head: HeadNetwork, card: Mapping[str, Any], path: Path) -> None:
    """Write the head's weights and its card (ready for JSON)."""
    weights = {name: value.detach().contiguous() for name, value in head.state_dict().items()}
    document = {"format": FORMAT, "version": VERSION, "card": json.dumps(card, ensure_ascii=False)}
    with replacing(path) as unfinished:
        save_file(weights, unfinished, metadata=document)


def load_head(path: Path) -> HeadNetwork:
    """The head in a file, on the CPU. Raises ValueError with what is wrong with the file, and what would be right."""
    weights, _ = _read(path)
    width = weights["out.weight"].shape[1]
    head = HeadNetwork(width, sum(name.startswith("blocks.") for name in weights) // 2)
    expected = {name: value.shape for name, value in head.state_dict().items()}
    for name in sorted(expected.keys() | weights.keys()):
        shape = weights[name].shape if name in weights else None
        if shape != expected.get(name):
            sizes = [f"{list(size)}" if size is not None else "nothing" for size in (shape, expected.get(name))]
            raise ValueError(f"{path}: {name} is {sizes[0]} where the head has {sizes[1]}; train it again")
    head.load_state_dict(weights)
    return head.requires_grad_(False).eval()


def read_card(path: Path) -> dict[str, Any]:
    """What the head in a file was trained on, and how well. Raises ValueError as `load_head` does."""
    return dict(json.loads(_read(path)[1]["card"]))


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with path.open("rb") as file:
            beginning = file.read(4)
        if beginning.startswith(PICKLES):
            raise ValueError(f"{path}: is pickled, and unpickling runs code; `stopkit train-head` writes safetensors")
        with safe_open(path, framework="pt") as opened:
            document = opened.metadata() or {}
            weights: dict[str, Tensor] = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from None
    except SafetensorError as error:
        raise ValueError(f"{path}: is not a whole safetensors file ({error}); train the head again") from None
    if document.get("format") != FORMAT or "out.weight" not in weights:
        raise ValueError(f"{path}: holds no acceptance head; `stopkit train-head` writes one")
    if document["version"] != VERSION:
        raise ValueError(f"{path}: is a head of version {document['version']}, not {VERSION}; train it again")
    if not all(torch.isfinite(value).all() for value in weights.values()):
        raise ValueError(f"{path}: has weights that are NaN or infinite; train it again")
    return weights, document
