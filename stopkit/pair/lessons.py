"""What a step of training learns from: the next token of a text, or the distribution of a model that is to be copied.

Batches are a function of (seed, step), so an interrupted run goes on as if nothing had happened.
"""

from copy import deepcopy
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from stopkit.hashing import hash_of_tensors
from stopkit.processor import computes_bfloat16


def half_precision() -> torch.autocast:
    """Arithmetic in bfloat16, where that is fast."""
    return torch.autocast("cpu", torch.bfloat16, enabled=computes_bfloat16())


class Lessons(Protocol):
    """Batches, and what is lost on them."""

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """What the step of that number learns from; the first dimension of every tensor is the sequence."""

    def loss(self, model: Any, *part: Tensor) -> Tensor:
        """Mean nats per token that `model` loses on some sequences of a batch."""


class NextToken:
    """The tokens of a text [N], cut into windows: every pass cuts at another phase and shuffles the cuts."""

    def __init__(self, tokens: Tensor, context: int, batch: int, seed: int) -> None:
        self._tokens, self._context, self._batch, self._seed = tokens, context, batch, seed
        self._count = (len(tokens) - context) // context

    def batch(self, step: int) -> tuple[Tensor, ...]:
        return (torch.stack([self._window(index) for index in range(step * self._batch, (step + 1) * self._batch)]),)

    def loss(self, model: Any, *part: Tensor) -> Tensor:
        (rows,) = part
        loss: Tensor = model(input_ids=rows, labels=rows, use_cache=False).loss
        return loss

    def _window(self, index: int) -> Tensor:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + index // self._count)
        phase = int(torch.randint(self._context, (), generator=generator))
        start = int(torch.randperm(self._count, generator=generator)[index % self._count]) * self._context + phase
        return self._tokens[start : start + self._context]


class Distillation:
    """The distributions of `teacher` on `windows` [N, L]: the loss is the KL divergence from them.

    What the teacher's head turns into logits is kept in `folder`, as float16 states [N, L, D], from the first time that
    a window is read: that is a small part of the size of its logits, and says the same.
    """

    def __init__(self, teacher: Any, windows: Tensor, folder: Path, batch: int, seed: int) -> None:
        self._teacher, self._windows, self._batch, self._seed = teacher, windows, batch, seed
        self._head = teacher.get_output_embeddings().weight.detach()
        shape, key = (*windows.shape, self._head.shape[1]), hash_of_tensors({"windows": windows, "head": self._head})
        self._states = _on_disk(folder / f"{key}.states", shape, torch.float16)
        self._known = _on_disk(folder / f"{key}.known", windows.shape[:1], torch.bool)

    def batch(self, step: int) -> tuple[Tensor, ...]:
        epoch, count = divmod(step * self._batch, len(self._windows))
        order = torch.cat([self._order(epoch), self._order(epoch + 1)])
        chosen = order[count : count + self._batch]
        self._read(chosen[~self._known[chosen]])
        return self._windows[chosen], self._states[chosen]

    def loss(self, model: Any, *part: Tensor) -> Tensor:
        rows, states = part
        with torch.no_grad():
            wanted = functional.log_softmax(functional.linear(states.to(self._head.dtype), self._head).float(), -1)
        given = functional.log_softmax(model(input_ids=rows, use_cache=False).logits.float(), -1)
        lost: Tensor = (wanted.exp() * (wanted - given)).sum(-1).mean()
        return lost

    def _order(self, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
        return torch.randperm(len(self._windows), generator=generator)

    @torch.no_grad()
    def _read(self, chosen: Tensor) -> None:
        for part in torch.split(chosen, 8) if len(chosen) else ():
            with half_precision():
                states = self._teacher.base_model(input_ids=self._windows[part], use_cache=False).last_hidden_state
            self._states[part] = states.half()
        self._known[chosen] = True


@torch.inference_mode()
def sampled_windows(teacher: Any, beginnings: Tensor, length: int, rows: int = 128, seed: int = 0) -> Tensor:
    """What `teacher` goes on to say at temperature 1 after each of `beginnings` [N, B], as windows [N, length]."""
    torch.manual_seed(seed)
    speaker = deepcopy(teacher).to(torch.bfloat16 if computes_bfloat16() else torch.float32)
    plain = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "eos_token_id": [], "max_length": length}
    fixed = {"cache_implementation": "static", "disable_compile": True}
    parts = torch.split(beginnings, rows)
    return torch.cat([speaker.generate(part, attention_mask=torch.ones_like(part), **plain, **fixed) for part in parts])


def _on_disk(file: Path, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    file.parent.mkdir(parents=True, exist_ok=True)
    return torch.from_file(str(file), shared=True, size=torch.Size(shape).numel(), dtype=dtype).view(shape)
