"""Memory that follows the text: tensors that grow in steps, so that only what is said takes room."""

from torch import Tensor

STEP = 64
"""Sizes are multiples of this."""


def roomier(needed: int, size: int) -> int:
    """How many places a tensor of `size` should have for `needed` of them: as many if they fit, else twice as many.

    Doubling makes what is copied in all less than what is held in the end.
    """
    if needed <= size:
        return size
    return -(-max(needed, 2 * size) // STEP) * STEP


def enlarged(tensor: Tensor, dim: int, size: int) -> Tensor:
    """`tensor` with `size` places along `dim`, what is new being zeros; itself if it has as many."""
    if tensor.shape[dim] == size:
        return tensor
    shape = list(tensor.shape)
    shape[dim] = size
    larger = tensor.new_zeros(shape)
    larger.narrow(dim, 0, tensor.shape[dim]).copy_(tensor)
    return larger
