"""Small models with random weights, of several architectures."""

from copy import deepcopy
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedConfig,
    Qwen2Config,
)

VOCABULARY = 40
SIZES = {"vocab_size": VOCABULARY, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
WIDE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}

CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**SIZES, **WIDE, num_key_value_heads=2, max_position_embeddings=96),
    "qwen2": Qwen2Config(**SIZES, **WIDE, num_key_value_heads=4, max_position_embeddings=96),
    "gpt_neox": GPTNeoXConfig(**SIZES, **WIDE, max_position_embeddings=96),
    "gpt2": GPT2Config(**SIZES, n_embd=32, n_layer=3, n_head=4, n_positions=96),
}


def random_model(architecture: str = "llama", seed: int = 0, sharpness: float = 8.0, **options: Any) -> Any:
    """A model whose logits are `sharpness` times larger than at initialisation, so that they prefer some tokens."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(deepcopy(CONFIGS[architecture]), **options).eval()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(sharpness)
    return model


def noisy_copy(model: Any, seed: int = 1, noise: float = 0.02) -> Any:
    """A draft that agrees with `model` often but not always."""
    torch.manual_seed(seed)
    copy = type(model)(deepcopy(model.config)).to(model.dtype).eval()
    copy.load_state_dict(model.state_dict())
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return copy
