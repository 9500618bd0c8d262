"""Records, states and lists of tensors as flat lists, which is what graphs take and give."""

from collections.abc import Iterator
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

Tree = TypeVar("Tree")


def leaves(tree: Any) -> list[Tensor]:
    """The tensors of a tree: sequences in their order, mappings by their sorted names, a record as what it holds."""
    found: list[Tensor] = []
    _gather(tree, found)
    return found


def _gather(tree: Any, found: list[Tensor]) -> None:
    if isinstance(tree, Tensor):
        found.append(tree)
    elif isinstance(tree, dict):
        for name in sorted(tree):
            _gather(tree[name], found)
    elif isinstance(tree, (tuple, list)):
        for each in tree:
            _gather(each, found)
    elif tree is not None:
        _gather(vars(tree), found)


def rebuilt(tree: Tree, values: Iterator[Tensor]) -> Tree:
    """A tree of the form of `tree` that holds `values`, in the order of its `leaves`."""
    made: Any
    if isinstance(tree, Tensor):
        made = next(values)
    elif isinstance(tree, dict):
        made = {name: rebuilt(tree[name], values) for name in sorted(tree)}
    elif isinstance(tree, (tuple, list)):
        made = tuple(rebuilt(each, values) for each in tree)
    elif tree is None:
        made = None
    else:
        made = object.__new__(type(tree))
        vars(made).update(rebuilt(vars(tree), values))
    return cast(Tree, made)


def form(tensor: Tensor) -> tuple[torch.dtype, torch.Size]:
    """What a graph takes for granted of a tensor."""
    return tensor.dtype, tensor.shape
