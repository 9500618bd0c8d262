"""Models from disk or hub: safetensors or GGUF only, checked before anything is generated."""

import json
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from stopkit.errors import InputError, one_line
from stopkit.hashing import hash_of_json, hash_of_tensors
from stopkit.pair import bundled
from stopkit.processor import computes_bfloat16
from stopkit_engines.hf import gguf
from stopkit_engines.hf.packing import pack

LOCK = threading.RLock()
"""transformers loads in one thread at a time: while it does, it changes what all of a process shares."""
HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
"""The form of a name on the hub, such as gpt2 or openai/gpt-oss-20b."""
HALF = (torch.bfloat16, torch.float16)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_model(place: str, device: torch.device, dtype: str, packed: bool, where: str) -> Any:
    """The causal language model at a place that `locate` gave, in evaluation mode; `where` is named in errors.

    With `packed` its linear layers are laid out for the CPU, where that is possible.
    """
    config = _from_pretrained(AutoConfig, place, where)
    if config.is_encoder_decoder or type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise InputError(f"{where}: {place}: a {config.model_type} model is no causal language model; use one.")
    chosen = DTYPES.get(dtype) or _natural_dtype(config, device)
    reported = {"output_loading_info": True, "ignore_mismatched_sizes": True}  # nothing of the report is ignored
    model, report = _from_pretrained(AutoModelForCausalLM, place, where, dtype=chosen, use_safetensors=True, **reported)
    _require_all_weights(report, f"{where}: {place}")
    model = model.to(device).eval()
    if packed:
        pack(model)
    return model


def _natural_dtype(config: Any, device: torch.device) -> torch.dtype | str:
    """On a CPU bfloat16 if it is fast there and the checkpoint is in half precision, else float32.

    On a GPU it is what the checkpoint was saved in.
    """
    if device.type != "cpu":
        return "auto"
    saved = getattr(config.get_text_config(), "dtype", None) or getattr(config, "dtype", None)
    return torch.bfloat16 if saved in HALF and computes_bfloat16() else torch.float32


def load_tokenizer(place: str, where: str) -> Any:
    """The tokenizer that belongs to the model at a place that `locate` gave."""
    return _from_pretrained(AutoTokenizer, place, where)


def locate(reference: str, where: str) -> str:
    """A folder for `bundled:NAME` and local paths, checked to hold safetensors; a GGUF file or a hub id as it is."""
    if reference.startswith("bundled:"):
        return str(bundled.model_path(reference.removeprefix("bundled:"), where))
    folder = Path(reference).expanduser()
    if folder.suffix == gguf.SUFFIX:
        return gguf.located(folder, where)
    if not folder.exists():
        if not HUB_ID.fullmatch(reference):
            raise InputError(
                f"{where}: {reference}: no such folder; give a model's folder, a GGUF file, a hub id or bundled:target."
            )
        return reference
    if not (folder / "config.json").is_file():
        raise InputError(f"{where}: {reference}: has no config.json; give a folder that save_pretrained wrote.")
    for file in sorted(folder.glob("*.json")):
        _require_json(file, where)
    for file in sorted(folder.glob("*.safetensors")):
        _require_safetensors(file, where)
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


def end_of_sequence(model: Any) -> Sequence[int]:
    """The token ids that end a sequence of this model, by its generation config if there is one, as in `generate`."""
    generation = getattr(model, "generation_config", None)
    ids = getattr(model.config if generation is None else generation, "eos_token_id", None)
    return [] if ids is None else torch.as_tensor(ids).flatten().tolist()


def fingerprint(model: Any) -> dict[str, str]:
    """The `dtype` of a model and a `hash` of its weights as they are loaded: their names, shapes and values."""
    return {"dtype": str(model.dtype).removeprefix("torch."), "hash": hash_of_tensors(model.state_dict())}


def vocabulary_hash(tokenizer: Any) -> str:
    """A hash of which token has which number."""
    return hash_of_json(sorted(tokenizer.get_vocab().items()))


def _require_all_weights(report: Mapping[str, Any], where: str) -> None:
    """Raise InputError if a checkpoint lacks weights of the model, has others, or has some of another shape."""
    shapes = {f"{name} ({list(saved)} for {list(wanted)})" for name, saved, wanted in report["mismatched_keys"]}
    faults = {
        "lacks": report["missing_keys"],
        "has what the model does not know:": report["unexpected_keys"],
        "has in another shape:": shapes,
    }
    wrong = [f"{fault} {_some(sorted(names))}" for fault, names in faults.items() if names]
    if wrong:
        raise InputError(f"{where}: its weights are not those of the model: the checkpoint {'; it '.join(wrong)}.")


def _some(names: Sequence[str], most: int = 3) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _require_json(file: Path, where: str) -> None:
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # both kinds of decoding errors are ValueErrors
        raise InputError(f"{where}: {file}: is no JSON, it is damaged or cut off: {one_line(error)}.") from None


def _require_safetensors(file: Path, where: str) -> None:
    try:
        with safe_open(file, "pt"):
            pass
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{where}: {file}: is no safetensors file, it is damaged or cut off: {one_line(error)}."
        ) from None


def _from_pretrained(loader: Any, place: str, where: str, **options: Any) -> Any:
    """What `loader` makes of the files at `place`. Nothing in them is run: no code of a model's own, no pickle."""
    folder, file = gguf.arguments(place)
    try:
        with LOCK:
            return loader.from_pretrained(folder, trust_remote_code=False, **file, **options)
    except Exception as error:  # transformers and its backends raise errors of any kind over a bad file
        reason = one_line(error) or type(error).__name__
        what = "" if Path(place).exists() else "is no folder here, and as a hub id "
        raise InputError(f"{where}: {place}: {what}cannot be loaded: {reason}") from error
