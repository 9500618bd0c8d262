"""Tiny GGUF models: Llamas as transformers has them, and random ones of kinds that keep other memories.

A draft is its target with some `noise`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from stopkit_engines.llamacpp.writing import write_llama

VOCABULARY, WIDTH, HEADS, INNER, LAYERS = 40, 32, 4, 64, 3
HEAD = WIDTH // HEADS


def written(model: Any, file: Path) -> Path:
    """A Llama of transformers as GGUF, in float32."""
    folder = file.with_suffix("")
    model.save_pretrained(folder)
    write_llama(folder, file, torch.float32)
    return file


def hybrid(file: Path, noise: float = 0.0) -> Path:
    """Short convolutions, whose state llama.cpp keeps a few of, and attention in every third layer."""
    heads = [0, 0, HEADS]
    attention = {"attn_q": (WIDTH, WIDTH), "attn_k": (WIDTH, WIDTH), "attn_v": (WIDTH, WIDTH)}
    attention |= {"attn_output": (WIDTH, WIDTH), "attn_q_norm": (HEAD,), "attn_k_norm": (HEAD,)}
    convolution = {"shortconv.conv": (WIDTH, 3), "shortconv.in_proj": (3 * WIDTH, WIDTH)}
    convolution |= {"shortconv.out_proj": (WIDTH, WIDTH)}
    layers = [attention if each else convolution for each in heads]
    sizes = {"head_count_kv": heads, "shortconv_l_cache": 3, "vocab_size": VOCABULARY}
    return _random(file, "lfm2", noise, layers, sizes, last_norm="token_embd_norm")


def windowed(file: Path, noise: float = 0.0, window: int = 6) -> Path:
    """Sliding windows in all layers but the last."""
    attention = {"attn_q": (WIDTH, WIDTH), "attn_k": (WIDTH, WIDTH), "attn_v": (WIDTH, WIDTH)}
    attention |= {"attn_output": (WIDTH, WIDTH), "attn_q_norm": (HEAD,), "attn_k_norm": (HEAD,)}
    attention |= {"post_attention_norm": (WIDTH,), "post_ffw_norm": (WIDTH,)}
    sizes = {"head_count_kv": HEADS, "sliding_window": window, "vocab_size": VOCABULARY}
    return _random(file, "gemma3", noise, [attention] * LAYERS, sizes)


def _random(
    file: Path, kind: str, noise: float, layers: list[Any], sizes: dict[str, Any], last_norm: str = "output_norm"
) -> Path:
    import gguf

    writer = gguf.GGUFWriter(file, kind)
    common = {"context_length": 128, "embedding_length": WIDTH, "block_count": LAYERS, "feed_forward_length": INNER}
    common |= {"head_count": HEADS, "key_length": HEAD, "value_length": HEAD, "rope_dimension_count": HEAD}
    for name, value in (common | sizes | {"layer_norm_rms_eps": 1e-6, "rope_freq_base": 1e4}).items():
        getattr(writer, f"add_{name}")(value)
    writer.add_tokenizer_model("none")
    shapes = {"token_embd": (VOCABULARY, WIDTH), last_norm: (WIDTH,), "output": (VOCABULARY, WIDTH)}
    inner = {"attn_norm": (WIDTH,), "ffn_norm": (WIDTH,), "ffn_down": (WIDTH, INNER)}
    inner |= {"ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH)}
    for number, layer in enumerate(layers):
        shapes |= {f"blk.{number}.{name}": shape for name, shape in (inner | layer).items()}
    random, other = np.random.default_rng(0), np.random.default_rng(1)
    for name, shape in shapes.items():
        drawn = random.standard_normal(shape, dtype=np.float32)
        drawn += noise * other.standard_normal(shape, dtype=np.float32)
        scale = 6.0 if name == "output" else 1.0  # so that it prefers some tokens, and rounding decides nothing
        weight = 1 + 0.1 * drawn if len(shape) == 1 else scale * drawn / shape[1] ** 0.5
        writer.add_tensor(f"{name}.weight", weight.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
