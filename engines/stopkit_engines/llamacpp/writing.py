"""A Llama checkpoint as a GGUF file: the bundled pair, and what tests make up. For others llama.cpp has a converter."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from stopkit.errors import InputError, one_line

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""What GGUF calls the weights that transformers calls so; those of a layer come behind its number."""
ROTATED = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}
"""Weights whose rows are turned by position, and the config's name for how many heads they have."""
NORMAL, CONTROL = 1, 3
"""GGUF's types of tokens: text, and what is none."""


def write_llama(folder: Path, file: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write the Llama model that `save_pretrained` wrote into `folder`; matrices are of `dtype`, vectors float32.

    Its tokenizer has to be a byte-level BPE that splits words as GPT-2 does; without one the file has none. Raises
    InputError where the package gguf is missing.
    """
    try:
        import gguf
    except ImportError as error:
        raise InputError(
            f"{folder}: to write GGUF needs the package gguf ({one_line(error)}); pip install 'stopkit[llamacpp]'."
        ) from None
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    writer = gguf.GGUFWriter(file, "llama")
    for name, value in _sizes(config).items():
        getattr(writer, f"add_{name}")(value)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if dtype == torch.float16 else gguf.LlamaFileType.ALL_F32)
    _tokenizer(writer, folder, config)
    for name, weight in _weights(load_file(folder / "model.safetensors"), config):
        writer.add_tensor(name, weight.to(dtype if weight.ndim > 1 else torch.float32).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    """What GGUF holds of a config, by the writer's names."""
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    rope = config.get("rope_parameters") or config
    return {
        "vocab_size": config["vocab_size"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "block_count": config["num_hidden_layers"],
        "feed_forward_length": config["intermediate_size"],
        "head_count": config["num_attention_heads"],
        "head_count_kv": config["num_key_value_heads"],
        "key_length": head,
        "value_length": head,
        "rope_dimension_count": head,
        "rope_freq_base": float(rope.get("rope_theta", 10000.0)),
        "layer_norm_rms_eps": config["rms_norm_eps"],
    }


def _weights(checkpoint: Mapping[str, Tensor], config: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    for name, weight in checkpoint.items():
        module, _, kind = name.rpartition(".")
        begin, layer = "", module.removeprefix("model.layers.")
        if layer != module:
            number, _, module = layer.partition(".")
            begin = f"blk.{number}."
        called = NAMES[module]
        if called in ROTATED:
            weight = _interleaved(weight, config[ROTATED[called]])
        yield f"{begin}{called}.{kind}", weight


def _interleaved(weight: Tensor, heads: int) -> Tensor:
    """The rows of each head in llama.cpp's order: the two that turn together side by side, not half a head apart."""
    return weight.view(heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape).contiguous()


def _tokenizer(writer: Any, folder: Path, config: Mapping[str, Any]) -> None:
    file = folder / "tokenizer.json"
    if not file.is_file():
        writer.add_tokenizer_model("none")
        return
    written = json.loads(file.read_text(encoding="utf-8"))
    special = {token["content"] for token in written["added_tokens"] if token["special"]}
    vocabulary = written["model"]["vocab"] | {token["content"]: token["id"] for token in written["added_tokens"]}
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([CONTROL if token in special else NORMAL for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in written["model"]["merges"]])
    adds: Mapping[str, Callable[[int], None]] = {
        "bos_token_id": writer.add_bos_token_id,
        "eos_token_id": writer.add_eos_token_id,
        "pad_token_id": writer.add_pad_token_id,
    }
    for name, add in adds.items():
        if config.get(name) is not None:
            add(config[name])
    writer.add_add_bos_token(False)
