"""What a policy learned, in a file: safetensors, with the policy that it belongs to."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stopkit.errors import InputError
from stopkit.files import replacing
from stopkit.hashing import hash_of_tensors
from stopkit.kinds import as_block
from stopkit.policy import StoppingPolicy
from stopkit.state import State

FORMAT = "stopkit state 2"


def save_state(path: str | Path, policy: StoppingPolicy, state: State) -> None:
    """Write `state`; the file replaces an older one whole, or not at all. Raises InputError if it cannot be written."""
    tensors = {name: value.detach().cpu().clone() for name, value in state.flat().items()}
    block = json.dumps(as_block(policy))
    metadata = {"format": FORMAT, "policy": block, "hash": hash_of_tensors(tensors, beside=block)}
    try:
        with replacing(path) as unfinished:
            save_file(tensors, unfinished, metadata)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}.") from None


def load_state(path: str | Path, policy: StoppingPolicy) -> State:
    """The state that `save_state` wrote for such a policy.

    Raises InputError if the file cannot be read, is no such file, or holds the state of a policy that remembers other
    values.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or 'there is no such file'}.") from None
    except SafetensorError:
        raise InputError(f"{path}: is not a whole safetensors file.") from None
    if metadata.get("format") != FORMAT:
        raise InputError(f"{path}: is not the state of a policy that this version can read; --save-state writes one.")
    block = metadata.get("policy", "")
    if metadata.get("hash") != hash_of_tensors(tensors, beside=block):
        raise InputError(f"{path}: is damaged: what it holds is not what was saved.")
    like = policy.init(1, torch.device("cpu"))
    if json.loads(block)["kind"] != policy.kind or _forms(tensors) != _forms(like.flat()):
        raise InputError(f"{path}: is the state of {block}, which {policy!r} cannot go on from.")
    return like.filled(tensors)


def _forms(tensors: Mapping[str, Tensor]) -> dict[str, tuple[torch.dtype, torch.Size]]:
    """What the values must have in common to go on; the number of rows may differ."""
    return {name: (value.dtype, value.shape[1:]) for name, value in tensors.items()}
