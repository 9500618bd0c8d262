"""`torch.vmap` without its overhead: 15 inputs cost it some 0.3 ms a call, more than most verbs take.

It spends them on flattening nested inputs of any kind. Here they are a dict and a tuple of tensors, and what is left
are the four calls that `torch.vmap` itself ends in.
"""

from collections.abc import Callable, Mapping

from torch import Tensor
from torch._C import _functorch as functorch
from torch._functorch import vmap

Named = Mapping[str, Tensor]


def vectorised(
    function: Callable[..., tuple[Tensor, Named]], named: Named, values: tuple[Tensor, ...]
) -> tuple[Tensor, Named]:
    """`function(named, *values)` for every entry of the first dimension [L] of all of them; results are [L, ...].

    Raises RuntimeError, as `torch.vmap` does, if `function` waits for the device or draws random numbers.
    """
    vmap.lazy_load_decompositions()  # type: ignore[attr-defined]
    count = len(values[0])
    level = functorch._vmap_increment_nesting(count, "error")
    try:
        batched = {name: functorch._add_batch_dim(value, 0, level) for name, value in named.items()}
        first, others = function(batched, *(functorch._add_batch_dim(value, 0, level) for value in values))
        return (
            functorch._remove_batch_dim(first, level, count, 0),
            {name: functorch._remove_batch_dim(value, level, count, 0) for name, value in others.items()},
        )
    finally:
        functorch._vmap_decrement_nesting()
