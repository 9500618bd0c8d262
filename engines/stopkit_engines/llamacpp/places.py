"""Where a GGUF file lies: a path, or the bundled pair, which is written as GGUF when it is first named."""

import os
from hashlib import blake2b
from pathlib import Path

from stopkit.files import replacing
from stopkit.pair import bundled
from stopkit_engines.llamacpp.writing import write_llama


def folder() -> Path:
    """Where files are kept that were made of the bundled pair."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "stopkit" / "gguf"


def locate(reference: str, where: str) -> Path:
    """The GGUF file of `bundled:NAME` or of a path; whether it is one is not looked at."""
    if not reference.startswith("bundled:"):
        return Path(reference).expanduser()
    source = bundled.model_path(reference.removeprefix("bundled:"), where)
    known = blake2b((source / "model.safetensors").read_bytes(), digest_size=8).hexdigest()
    file = folder() / f"{source.name}-{known}.gguf"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as place:
            write_llama(source, place)
    return file
