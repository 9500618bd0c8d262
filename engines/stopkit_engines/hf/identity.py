"""What tells one model, or one tokenizer, from another: hashes that do not depend on where or how they are stored."""

import hashlib
import json
from typing import Any

import torch


def of_model(model: Any) -> dict[str, str]:
    """`dtype` and `hash` of all weights, as they are loaded: their names, shapes and values."""
    digest = hashlib.blake2b(digest_size=16)
    for name, weight in sorted(model.state_dict().items()):
        digest.update(f"{name} {weight.dtype} {list(weight.shape)}".encode())
        digest.update(memoryview(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()))
    return {"dtype": str(model.dtype).removeprefix("torch."), "hash": digest.hexdigest()}


def of_tokenizer(tokenizer: Any) -> str:
    """A hash of which token has which number."""
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()))
    return hashlib.blake2b(vocabulary.encode(), digest_size=16).hexdigest()
