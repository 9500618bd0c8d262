"""A GGUF model as llama.cpp has loaded it: its weights, its sizes, and which of its tokens end a text."""

import ctypes
import weakref
from functools import cached_property
from pathlib import Path
from typing import Any

from stopkit.errors import InputError, one_line
from stopkit_engines.llamacpp.library import library, reason

MAGIC = b"GGUF"


class GgufModel:
    """`handle` is what `llama` calls a model; it is freed with this object. `llama` are the functions of llama.h."""

    def __init__(self, llama: Any, handle: Any) -> None:
        self.llama, self.handle = llama, handle
        weakref.finalize(self, llama.llama_model_free, handle)
        self.vocab = llama.llama_model_get_vocab(handle)
        self.vocabulary = int(llama.llama_vocab_n_tokens(self.vocab))
        """Tokens that it can read and say."""
        self.context = int(llama.llama_model_n_ctx_train(handle))
        """The most tokens of a sequence that it was trained for."""
        self.width = int(llama.llama_model_n_embd_out(handle))
        """Of its hidden states."""
        self.window = int(llama.llama_model_n_swa(handle))
        """How many tokens its sliding windows see; 0 without such layers."""
        self.has_states = bool(llama.llama_model_is_recurrent(handle) or llama.llama_model_is_hybrid(handle))
        """Whether layers keep a recurrent state, which no memory of single tokens can roll back."""

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """The tokens that end a text."""
        return tuple(filter(lambda token: self.llama.llama_vocab_is_eog(self.vocab, token), range(self.vocabulary)))

    @property
    def has_text(self) -> bool:
        """Whether the file holds a tokenizer."""
        return bool(self.llama.llama_vocab_type(self.vocab) != self.llama.LLAMA_VOCAB_TYPE_NONE)

    @property
    def description(self) -> str:
        """Architecture, size and type of the weights: "llama 134.52 M Q4_1"."""
        text = ctypes.create_string_buffer(256)
        self.llama.llama_model_desc(self.handle, text, len(text))
        return text.value.decode(errors="replace")


def load(file: Path, gpu_layers: int, where: str) -> GgufModel:
    """The model in a GGUF file; `where` is named in errors. Raises InputError for what cannot decode text."""
    _require_gguf(file, where)
    llama = library()
    params = llama.llama_model_default_params()
    params.n_gpu_layers = gpu_layers
    handle = llama.llama_model_load_from_file(str(file).encode(), params)
    if not handle:
        raise InputError(reason(f"{where}: {file}: llama.cpp cannot load it"))
    model = GgufModel(llama, handle)
    if llama.llama_model_has_encoder(handle) or not llama.llama_model_has_decoder(handle):
        raise InputError(f"{where}: {file}: {model.description} is no causal language model; use one.")
    return model


def _require_gguf(file: Path, where: str) -> None:
    if file.is_dir():
        raise InputError(f"{where}: {file}: is a folder; give the GGUF file of a model.")
    try:
        with file.open("rb") as opened:
            begins = opened.read(len(MAGIC))
    except OSError as error:
        raise InputError(f"{where}: {file}: cannot be read ({one_line(error)}); give a GGUF file.") from None
    if begins != MAGIC:
        raise InputError(f"{where}: {file}: is no GGUF file; llama.cpp's convert_hf_to_gguf.py makes one of a model.")
