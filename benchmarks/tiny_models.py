"""Tiny models with random weights, of every type that transformers has a config of: what `architectures.py` tries."""

from typing import Any

WINDOW = 6
SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "d_model": 32,
    "n_embd": 32,
    "dim": 32,
    "embedding_size": 32,
    "word_embed_proj_dim": 32,
    "intermediate_size": 32,
    "ffn_dim": 32,
    "n_inner": 32,
    "d_inner": 32,
    "decoder_ffn_dim": 32,
    "encoder_ffn_dim": 32,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "attention_hidden_size": 32,
    "num_hidden_layers": 4,
    "n_layer": 4,
    "n_layers": 4,
    "num_layers": 4,
    "decoder_layers": 2,
    "encoder_layers": 2,
    "num_attention_heads": 4,
    "n_head": 4,
    "n_heads": 4,
    "num_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 96,
    "n_positions": 96,
    "n_ctx": 96,
    "max_seq_len": 96,
    "context_length": 96,
    "sliding_window": WINDOW,
    "attention_chunk_size": WINDOW,
    "window_size": WINDOW,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "rotary_dim": 4,
    "mamba_n_heads": 8,
    "mamba_num_heads": 8,
    "mamba_d_head": 8,
    "mamba_head_dim": 8,
    "mamba_d_state": 8,
    "mamba_expand": 2,
    "ssm_state_size": 8,
    "state_size": 8,
    "num_experts_per_tok": 2,
}
"""Small values for the fields that configs of many kinds share."""
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
"""Small ids for configs that insist on some."""
VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"num_key_value_heads": 4},
    {"head_dim": None},
    {"num_key_value_heads": 4, "head_dim": None},
    {"num_heads": 8, "head_dim": 8, "n_groups": 1, "num_key_value_heads": 4},
)
"""What to change in the sizes until a config is consistent; None leaves the default."""


def tiny(
    model_type: str, seed: int = 0, variant: dict[str, Any] | None = None, ids: dict[str, int] | None = None
) -> Any:
    """A random model of this type, with weights large enough for every part of it to matter."""
    return random_model(tiny_config(model_type, variant or {}, ids or {}), seed)


def random_model(config: Any, seed: int, like: Any = None) -> Any:
    """A model of `config`, of the class `like` if one is given, with large random weights."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = (like(config) if like else AutoModelForCausalLM.from_config(config)).eval().float()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.2)
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.eos_token_id = None
    return model


def tiny_config(model_type: str, variant: dict[str, Any], ids: dict[str, int]) -> Any:
    """The config of a tiny model of this type."""
    from transformers import AutoConfig

    default = AutoConfig.for_model(model_type)
    sizes = {name: value for name, value in (SIZES | variant).items() if value is not None}
    made = type(default)(**_tiny_fields(default, sizes, ids))
    for inner in (made, made.get_text_config()):
        for name in IDS:
            if not ids or name == "eos_token_id":
                inner.__dict__[name] = None
        inner.use_cache = True
        if hasattr(inner, "is_decoder"):
            inner.is_decoder = True
    return made


def _tiny_fields(config: Any, sizes: dict[str, Any], ids: dict[str, int]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    known = config.to_dict()
    for name, value in known.items():
        if isinstance(value, dict) and hasattr(getattr(config, name, None), "to_dict"):
            fields[name] = _tiny_fields(getattr(config, name), sizes, ids)
        elif name in sizes and (value is None or (isinstance(value, int) and not isinstance(value, bool))):
            fields[name] = sizes[name]
        elif name in IDS:
            fields[name] = ids.get(name)
    layers = next((fields[name] for name in ("num_hidden_layers", "n_layer", "num_layers") if name in fields), None)
    if isinstance(known.get("layer_types"), list) and layers:
        kinds = list(dict.fromkeys(known["layer_types"]))
        fields["layer_types"] = [kinds[at % len(kinds)] for at in range(layers)]
    if not ids:
        fields = {name: value for name, value in fields.items() if name not in IDS}
    return fields | EXTRA.get(config.model_type, {})


ROPE = {"rope_type": "default", "rope_theta": 10000.0}
KIMI = {
    "num_key_value_heads": 4,
    "linear_head_dim": 8,
    "linear_num_heads": 4,
    "qk_head_dim": 16,
    "num_experts_per_token": 2,
}
EXTRA: dict[str, dict[str, Any]] = {
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "gemma3n_text": {
        "num_hidden_layers": 6,
        "num_kv_shared_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"] * 3,
        "activation_sparsity_pattern": [0.0] * 6,
        "intermediate_size": [32] * 6,
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
        "ffn_config": {"hidden_size": 32, "ffn_hidden_size": 32, "moe_num_experts": 2, "moe_top_k": 1},
    },
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2, "num_dense_layers": 1},
    "kimi_linear": KIMI,
    "bailing_hybrid": KIMI | {"layer_group_size": 2, "num_expert_group": 1, "first_k_dense_replace": 1},
    "xmod": {"default_language": "en_XX"},
    "cohere_compass_text": {"rope_parameters": dict.fromkeys(("full_attention", "sliding_attention"), ROPE)},
    "zamba": {
        "num_hidden_layers": 6,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "mamba_dt_rank": 4,
        "num_key_value_heads": 4,
    },
    "zaya": {"num_experts_per_tok": 1},
    "reformer": {"axial_pos_embds": False, "is_decoder": True},
    "zamba2": {
        "num_hidden_layers": 6,
        "layers_block_type": ["mamba", "hybrid"] * 3,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "mamba_headdim": 8,
        "num_key_value_heads": 4,
        "adapter_rank": 4,
    },
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2},
    "bamba": {"attn_layer_indices": [1, 3], "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_expand": 2},
    "falcon_h1": {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_ssm": 64, "mamba_expand": 2},
    "granitemoehybrid": {"mamba_n_heads": 8, "mamba_d_head": 8, "layer_types": ["mamba", "attention"] * 2},
}
"""What some configs need to be consistent."""
