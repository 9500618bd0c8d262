"""What is known by a hash: tensors with their names, and anything that JSON can hold."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

SIZE = 16


def hash_of_tensors(tensors: Mapping[str, Tensor], beside: str = "") -> str:
    """A hash of the names, dtypes, shapes and values of `tensors`, and of a text that belongs to them."""
    digest = hashlib.blake2b(beside.encode(), digest_size=SIZE)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        values = tensor.detach().cpu().flatten()
        if values.stride() != (1,):  # a single value may have any
            values = values.clone(memory_format=torch.contiguous_format)
        digest.update(values.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def hash_of_json(value: Any) -> str:
    """A hash of `value` as JSON; the order of keys does not matter."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=SIZE).hexdigest()
