"""Models from disk or hub: safetensors only, checked before anything is generated."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from stopkit.errors import InputError
from stopkit.pair import bundled
from stopkit_engines.hf.cache import require_rollback

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_device(name: str) -> torch.device:
    """`auto` is CUDA where there is a device, else the CPU; asking for CUDA without one is an error."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("engine.device: cuda was asked for and torch finds no CUDA device; use cpu or auto.")
    return torch.device(name)


def load_model(reference: str, device: torch.device, dtype: str, where: str) -> Any:
    """A causal language model in evaluation mode; `where` is the config key, for errors."""
    place = locate(reference, where)
    config = _from_pretrained(AutoConfig, place, where)
    require_rollback(config.get_text_config(), f"{where}: {reference}")
    # The CPU computes in float32 unless told otherwise; a GPU in what the checkpoint was saved in.
    chosen = DTYPES.get(dtype) or (torch.float32 if device.type == "cpu" else "auto")
    model = _from_pretrained(AutoModelForCausalLM, place, where, dtype=chosen, use_safetensors=True)
    return model.to(device).eval()


def load_tokenizer(reference: str, where: str) -> Any:
    """The tokenizer that belongs to a model."""
    return _from_pretrained(AutoTokenizer, locate(reference, where), where)


def locate(reference: str, where: str) -> str:
    """A folder for `bundled:NAME` and local paths, checked to hold safetensors; a hub id as it is."""
    if reference.startswith("bundled:"):
        return str(bundled.model_path(reference.removeprefix("bundled:"), where))
    folder = Path(reference).expanduser()
    if not folder.exists():
        if reference.count("/") != 1 or reference.startswith((".", "/", "~")):
            raise InputError(
                f"{where}: {reference}: no such folder; give a model's folder, a hub id, or bundled:target."
            )
        return reference
    if not (folder / "config.json").is_file():
        raise InputError(f"{where}: {reference}: has no config.json; give a folder that save_pretrained wrote.")
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(pattern))
        reason = (
            f"its weights are pickled ({', '.join(pickles)}), and unpickling runs code"
            if pickles
            else "it has no weights"
        )
        raise InputError(
            f"{where}: {reference}: {reason}; convert them with save_pretrained, which writes safetensors."
        )
    return str(folder)


def require_same_tokens(target: Any, draft: Any, where: str) -> None:
    """Raise InputError unless both tokenizers map text to the same ids."""
    ours, theirs = target.get_vocab(), draft.get_vocab()
    if ours == theirs:
        return
    different = next(token for token in sorted({*ours, *theirs}) if ours.get(token) != theirs.get(token))
    raise InputError(
        f"{where}: the draft's tokenizer differs from the target's ({len(theirs)} and {len(ours)} tokens; "
        f"{different!r} is {theirs.get(different)} and {ours.get(different)}); use a draft with the target's tokenizer."
    )


def require_same_vocabulary(target: Any, draft: Any) -> None:
    """Raise InputError unless models that come without tokenizers have vocabularies of one size."""
    sizes = [model.config.get_text_config().vocab_size for model in (target, draft)]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"engine.draft: its vocabulary has {sizes[1]} tokens and the target's {sizes[0]}; "
            "use a draft with the target's tokens."
        )


def end_of_sequence(model: Any) -> Sequence[int]:
    """The token ids that end a sequence of this model."""
    generation = getattr(model, "generation_config", None)
    ids = getattr(generation, "eos_token_id", None)
    if ids is None:
        ids = getattr(model.config, "eos_token_id", None)
    return () if ids is None else [ids] if isinstance(ids, int) else list(ids)


def fingerprint(model: Any) -> dict[str, str]:
    """The `dtype` of a model and a `hash` of its weights as they are loaded: their names, shapes and values."""
    digest = hashlib.blake2b(digest_size=16)
    for name, weight in sorted(model.state_dict().items()):
        digest.update(f"{name} {weight.dtype} {list(weight.shape)}".encode())
        digest.update(memoryview(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()))
    return {"dtype": str(model.dtype).removeprefix("torch."), "hash": digest.hexdigest()}


def vocabulary_hash(tokenizer: Any) -> str:
    """A hash of which token has which number."""
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()))
    return hashlib.blake2b(vocabulary.encode(), digest_size=16).hexdigest()


def _from_pretrained(loader: Any, place: str, where: str, **options: Any) -> Any:
    try:
        return loader.from_pretrained(place, **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{where}: {place}: cannot be loaded: {reason}") from error
