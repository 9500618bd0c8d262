"""Ballast: random Llama-shaped layers that run in every forward of the bundled pair, only for the time that they take.

The bundled pair decides what is said, so that acceptance is that of models which belong together; ballast makes its
forwards as heavy as those of models that a GPU is bought for. Its result is thrown away. It attends within the tokens
of a forward and has no cache: at the lengths here that is a small part of the time of its weights.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Size(NamedTuple):
    """Of a Llama-shaped model."""

    width: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int


SIZES = {
    "8B": Size(4096, 14336, 32, 32, 8, 128_256),
    "1B": Size(2048, 8192, 16, 32, 8, 128_256),
    "0.1B": Size(768, 2048, 12, 12, 4, 128_256),
    "tiny": Size(64, 128, 2, 4, 2, 512),
    "tinier": Size(32, 64, 1, 2, 1, 512),
}
PAIRS = (("8B", "1B"), ("1B", "0.1B"))
"""Of target and draft."""


class Layer(nn.Module):
    """One layer: norms, attention with grouped heads, and a gated block."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self._head = size.width // size.heads
        narrow = size.kv_heads * self._head
        self.before, self.between = nn.RMSNorm(size.width), nn.RMSNorm(size.width)
        self.query, self.out = (nn.Linear(size.width, size.width, bias=False) for _ in range(2))
        self.key, self.value = (nn.Linear(size.width, narrow, bias=False) for _ in range(2))
        self.gate, self.up = (nn.Linear(size.width, size.inner, bias=False) for _ in range(2))
        self.down = nn.Linear(size.inner, size.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, W, D] to the same."""
        normal = self.before(x)
        several = (
            part(normal).unflatten(-1, (-1, self._head)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        seen = functional.scaled_dot_product_attention(*several, is_causal=True, enable_gqa=True)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        normal = self.between(x)
        return x + self.down(functional.silu(self.gate(normal)) * self.up(normal))


class Ballast(nn.Module):
    """Layers and a head over the tokens of a forward."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size.vocabulary, size.width)
        self.layers = nn.Sequential(*(Layer(size) for _ in range(size.layers)))
        self.head = nn.Linear(size.width, size.vocabulary, bias=False)

    def forward(self, tokens: Tensor, keep: int) -> Tensor:
        """Logits that nobody wants, of the last `keep` of tokens [B, W], all for 0."""
        return self.head(self.layers(self.embedding(tokens % self.embedding.num_embeddings))[:, -keep:])


def made(name: str, device: str) -> Ballast:
    """Random ballast in bfloat16."""
    with torch.device("meta"):
        ballast = Ballast(SIZES[name])
    ballast = ballast.to(torch.bfloat16).to_empty(device=device).eval().requires_grad_(False)
    for weight in ballast.parameters():
        if weight.dim() > 1:
            weight.normal_(std=0.02)
        else:
            weight.fill_(1)
    return ballast


@contextmanager
def aboard(model: Any, ballast: Ballast) -> Iterator[None]:
    """Let every forward of `model` run the ballast, too."""

    def run(module: Any, inputs: Any, named: dict[str, Any]) -> None:
        keep = named.get("logits_to_keep", 0)
        ballast(named["input_ids"] if "input_ids" in named else inputs[0], keep if isinstance(keep, int) else 1)

    hook = model.register_forward_pre_hook(run, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()
