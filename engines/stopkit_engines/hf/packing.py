"""Weights in the layout that the processor's matrix kernels read: of linear layers, once, when a model is loaded.

Torch's own linear layer lays them out anew in every call, or takes kernels that read them as they are, which for the
few tokens of a step or a block takes up to twice as long. Results differ from its by rounding.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

DTYPES = (torch.float32, torch.bfloat16)
"""What there are kernels for."""


class PackedLinear(nn.Module):
    """A linear layer that holds its weights packed, and nothing else of them."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bias = plain.in_features, plain.out_features, plain.bias
        self._packed = torch.ops.mkldnn._reorder_linear_weight(plain.weight.detach(), None)

    def forward(self, states: Tensor) -> Tensor:
        made: Tensor = torch.ops.mkldnn._linear_pointwise(states, self._packed, self.bias, "none", [], "")
        return made

    @property
    def weight(self) -> Tensor:
        """The weights [out, in] as they were, in new memory."""
        weight: Tensor = self._packed.to_dense()
        return weight

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = self.weight


def pack(model: nn.Module) -> None:
    """Pack the linear layers of `model`, in place, one after another; the weights that it had are let go of.

    A head that shares its weights with the embedding is packed beside them. Layers of other kinds stay.
    """
    for parent in [*model.modules()]:
        for name, layer in parent.named_children():
            if type(layer) is nn.Linear and layer.weight.device.type == "cpu" and packs(layer.weight.dtype):
                setattr(parent, name, PackedLinear(layer))


def is_packed(model: nn.Module) -> bool:
    """Whether any layer of `model` is packed."""
    return any(isinstance(layer, PackedLinear) for layer in model.modules())


@cache
def packs(dtype: torch.dtype) -> bool:
    """Whether torch has kernels for packed weights of that dtype on this processor: those of bfloat16 want AVX-512."""
    if dtype not in DTYPES or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    try:
        PackedLinear(nn.Linear(16, 16, dtype=dtype))(torch.zeros(1, 16, dtype=dtype))
    except RuntimeError:
        return False
    return True
