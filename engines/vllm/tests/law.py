"""Whether sampled texts have the law of the target, token by token, given what came before each.

Whatever was drafted, a token at temperature 1 is drawn from the target's distribution p, given the text before it. Two
figures say how far from that many tokens are: both are exact for any lengths of blocks, as they look at one token after
another.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from work import DRAFT, TARGET


@dataclass(frozen=True)
class Law:
    """How far from the target's law texts are."""

    tokens: int
    surprise: float
    """z of Σ (log p(x) + H(p)), a sum of terms with mean 0; standard normal under the law."""
    distance: float
    """√n times the Kolmogorov-Smirnov distance of the randomised PIT from uniform, tokens ordered by p/q.

    Under the law it is above 1.95 once in 1,000 times.
    """

    @property
    def holds(self) -> bool:
        """Fails once in 400 times under the law: |z| above 3.3, or a distance above 1.95."""
        return abs(self.surprise) < 3.3 and self.distance < 1.95


@torch.inference_mode()
def law_of(prompts: Sequence[list[int]], texts: Sequence[list[int]]) -> Law:
    """The law of `texts` that go on from `prompts`, by transformers' own forwards in float32."""
    from transformers import AutoModelForCausalLM

    target, draft = (AutoModelForCausalLM.from_pretrained(path, dtype="float32") for path in (TARGET, DRAFT))
    generator = torch.Generator().manual_seed(0)
    terms, places = [], []
    for prompt, text in zip(prompts, texts, strict=True):
        p, q = (_log_probabilities(model, prompt, text) for model in (target, draft))
        x = torch.tensor(text).unsqueeze(1)
        terms.append(torch.stack(_surprise(p, x)))
        places.append(_place(p, q, x, torch.rand(len(text), generator=generator, dtype=torch.float64)))
    excess, variance = torch.cat(terms, 1).sum(1).tolist()
    u = torch.cat(places).sort().values
    steps = torch.arange(len(u) + 1, dtype=torch.float64) / len(u)
    distance = float(torch.maximum(steps[1:] - u, u - steps[:-1]).max()) * math.sqrt(len(u))
    return Law(len(u), excess / math.sqrt(variance), distance)


def _log_probabilities(model: Any, prompt: list[int], text: list[int]) -> Tensor:
    logits = model(torch.tensor([prompt + text])).logits[0, len(prompt) - 1 : -1]
    return torch.log_softmax(logits.double(), -1)


def _surprise(log_p: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """log p(x) + H, and its variance, for every token."""
    p = log_p.exp()
    entropy = -(p * log_p).sum(-1)
    return log_p.gather(1, x).squeeze(1) + entropy, (p * log_p**2).sum(-1) - entropy**2


def _place(log_p: Tensor, log_q: Tensor, x: Tensor, random: Tensor) -> Tensor:
    """The PIT of every token: the probability of those before it in the order of p/q, and a part of its own."""
    ratio = log_p - log_q
    own = log_p.gather(1, x).squeeze(1).exp()
    before = (log_p.exp() * (ratio < ratio.gather(1, x))).sum(-1)
    return before + random * own
