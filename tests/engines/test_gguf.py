"""A model in a GGUF file says what it says in safetensors."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from stopkit import InputError, load_engine
from stopkit.pair.tokenizer import train_tokenizer

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
    "model.layers": "blk",
}
"""What a Qwen2 calls its weights, and what a GGUF file does."""


def write(file: Path, model: Any, tokenizer: Any) -> None:
    """`model`, a Qwen2, with a byte-level BPE `tokenizer` as a GGUF file."""
    gguf = pytest.importorskip("gguf", reason="the extra `gguf` is not installed")
    pytest.importorskip("accelerate", reason="the extra `gguf` is not installed")
    config, writer = model.config, gguf.GGUFWriter(file, "qwen2")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(config.vocab_size)
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokenizer.convert_ids_to_tokens(range(len(tokenizer))))
    writer.add_token_types([gguf.TokenType.NORMAL] * len(tokenizer))
    writer.add_token_merges([" ".join(merge) for merge in backend["model"]["merges"]])
    for name, weight in model.state_dict().items():
        for theirs, ours in NAMES.items():
            name = name.replace(theirs, ours)
        writer.add_tensor(name, weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_what_it_says(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["def add(a, b):\n    return a + b\n"], 300, 64)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=False,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(8)
    file = tmp_path / "model.gguf"
    write(file, model, tokenizer)
    engine: Any = load_engine({"kind": "eager", "target": str(file), "draft": "early_exit:layers=1", "packed": False})
    loaded = engine.models.target.state_dict()
    assert loaded.keys() == model.state_dict().keys()
    assert all(torch.equal(loaded[name], weight) for name, weight in model.state_dict().items())
    assert engine.models.tokenizer("def add(a")["input_ids"] == tokenizer("def add(a")["input_ids"]
    said = engine.generate("def add(a", "static:length=2", max_new_tokens=8, temperature=0).tokens[0]
    prompt = torch.tensor([tokenizer("def add(a")["input_ids"]])
    assert [*said] == model.generate(prompt, max_new_tokens=8, do_sample=False)[0, prompt.shape[1] :].tolist()

    file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(InputError, match=rf"engine\.target: {file}: cannot be loaded: "):
        load_engine({"kind": "eager", "target": str(file)}).generate("x", "static")
