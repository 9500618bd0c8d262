"""What is captured of a model: `CachedModel.pending`, a forward over what rows have pending, with cache and masks."""

import json
import sys
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from stopkit.errors import one_line
from stopkit.policy import StoppingPolicy
from stopkit_engines.batch.room import STEP
from stopkit_engines.graphs import sources
from stopkit_engines.graphs.artefacts import CannotCompile, Use, Wanted
from stopkit_engines.graphs.trees import leaves
from stopkit_engines.hf.cached_model import CachedModel
from stopkit_engines.hf.loading import fingerprint

MOST = 1 << 20
"""Dimensions that can vary are less than this."""


class Shape(NamedTuple):
    """Which forwards a graph is for. Sizes that can vary in it are at least 2."""

    name: str
    one_row: bool
    one_token: bool


ONE_TOKEN, ONE_ROW, ROWS = Shape("one token", True, True), Shape("one row", True, False), Shape("rows", False, False)
"""A graph each: a token by itself has no need of loops over tokens, and a row none of loops over rows."""


def shape_of(rows: int, width: int) -> Shape:
    """What `rows` rows with `width` tokens pending are; several rows are padded to two tokens."""
    return ROWS if rows > 1 else ONE_TOKEN if width == 1 else ONE_ROW


class Pending(nn.Module):
    """`model` over what rows have pending, as a function of tensors alone; the cache is written in place."""

    use = Use(span=3, kept=4)

    def __init__(self, model: Any, vocabulary: int) -> None:
        super().__init__()
        self.model, self._vocabulary = model, vocabulary

    def forward(
        self, tokens: Tensor, end: Tensor, filled: Tensor, span: Tensor, *stored: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Logits [B, W, V] and last hidden states [B, W, D] of the places `span` [W] before each row's `end` [B].

        `stored` are the keys and values of each layer.
        """
        runner = CachedModel(self.model, self._vocabulary, end.shape[0], sys.maxsize, tokens.device)
        runner.hold([*zip(stored[::2], stored[1::2], strict=True)])
        runner.filled = filled
        used = stored[0].shape[2] - 1
        scores = runner.pending(tokens, end, span, used, keep=0, hidden=True)
        return scores.logits, scores.hidden_state


def wanted(name: str, model: Any, vocabulary: int, one_row: bool) -> dict[Shape, Wanted]:
    """The graphs of a model, for one row or for several."""
    model_alone = cache(partial(about_model, model, vocabulary))
    return {
        shape: Wanted(
            f"{name} ({shape.name})",
            lambda shape=shape: model_alone() | {"shape": shape},  # type: ignore[misc]
            Pending(model, vocabulary),
            partial(captured, model, vocabulary, shape),
            compiling(model.dtype),
        )
        for shape in (ONE_TOKEN, ONE_ROW, ROWS)
        if shape.one_row == one_row
    }


def about_model(model: Any, vocabulary: int) -> dict[str, Any]:
    """What graphs of a model depend on, whatever their shape."""
    return {
        "weights": fingerprint(model),
        "config": json.dumps(model.config.to_dict(), sort_keys=True, default=str),
        "attention": getattr(model.config, "_attn_implementation", None),
        "vocabulary": vocabulary,
    }


def about_policy(policy: StoppingPolicy) -> dict[str, Any]:
    """What graphs with a policy in them depend on. Raises CannotCompile if its code cannot be read."""
    try:
        rule = sources.of_policy(policy)
    except (OSError, TypeError) as error:
        raise CannotCompile(f"its source cannot be read, {one_line(error)}") from error
    return {"policy": [policy.kind, policy.model_dump(mode="json")], "rule": rule}


def compiling(dtype: torch.dtype) -> dict[str, Any]:
    """How Inductor compiles for a CPU.

    Weights become constants in the layout that its own matrix kernels read. In half precision these are always taken;
    in float32 they are tried against torch's.
    """
    backends = "CPP,ATEN" if dtype is torch.float32 else "CPP"
    return {"freezing": True, "max_autotune": True, "max_autotune_gemm_backends": backends}


def captured(model: Any, vocabulary: int, shape: Shape) -> ExportedProgram:
    """The graph of `model` for forwards of this shape. Raises whatever torch raises over one that it cannot capture."""
    rows, width = 1 if shape.one_row else 3, 1 if shape.one_token else 5
    tokens, places, stored = held_by(model, vocabulary, rows, width)
    some = {} if shape.one_row else {0: Dim("rows", min=2, max=MOST)}
    wide = None if shape.one_token else {0: Dim("width", min=2, max=MOST)}
    slots = some | {2: Dim("slots", min=4, max=MOST)}
    inputs = (tokens, places, places - width, torch.arange(-width, 0, device=model.device), *stored)
    sizes = (some | {1: Dim("length", min=4, max=MOST)}, some, some, wide, (slots,) * len(stored))
    return exported(Pending(model, vocabulary), inputs, sizes)


def held_by(model: Any, vocabulary: int, rows: int, width: int) -> tuple[Tensor, Tensor, list[Tensor]]:
    """A token buffer [rows, L], places [rows] with `width` tokens before them, and what a cache of the model holds."""
    runner = CachedModel(model, vocabulary, rows, sys.maxsize, model.device)
    places = torch.arange(rows, device=model.device) + width
    tokens = torch.zeros(rows, STEP, dtype=torch.long, device=model.device)
    runner.forward(tokens, places, keep=1)  # the first forward finds what the layers hold
    runner.make_room(2 * STEP)
    return tokens, places, leaves(runner.stored)


def exported(function: nn.Module, inputs: tuple[Any, ...], sizes: tuple[Any, ...] | None = None) -> ExportedProgram:
    """The graph of a function on such `inputs`; their `sizes` can vary as torch's dynamic shapes say, or not at all."""
    with torch.inference_mode(False), torch.no_grad():
        plain = torch.utils._pytree.tree_map(torch.clone, inputs)
        return torch.export.export(function, plain, dynamic_shapes=sizes, strict=False)
