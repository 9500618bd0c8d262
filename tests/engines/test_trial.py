"""The trial: each model is run in a way in which it says what it says without a cache, or it is refused."""

from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from stopkit import InputError
from stopkit_engines.eager import EagerEngine
from stopkit_engines.hf import trial
from stopkit_engines.hf.cached_model import CachedModel
from stopkit_engines.hf.windows import narrowed, window_sizes
from tests.engines.models import random_model

PROMPTS = [[3, 4, 5, 6, 7, 8, 9], [11, 12, 13]]
COUNT = 14
SMALL = {"vocab_size": 50, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
HIDDEN = SMALL | {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "max_position_embeddings": 64}
WIDE = HIDDEN | {"intermediate_size": 16, "num_key_value_heads": 2, "head_dim": 8}

SERVED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "a window": ("MistralConfig", "ragged rows", WIDE | {"sliding_window": 4}),
    "windows and full attention": ("Gemma2Config", "ragged rows", WIDE | {"sliding_window": 4}),
    "windows every second layer": (
        "Gemma3TextConfig",
        "ragged rows",
        WIDE | {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"] * 2},
    ),
    "chunks": (
        "Llama4TextConfig",
        "ragged rows",
        WIDE
        | {
            "attention_chunk_size": 4,
            "intermediate_size_mlp": 16,
            "num_local_experts": 2,
            "layer_types": ["chunked_attention", "full_attention"] * 2,
        },
    ),
    "experts whose routers report": (
        "MixtralConfig",
        "ragged rows",
        WIDE | {"num_local_experts": 2, "output_router_logits": True},
    ),
    "alibi": ("BloomConfig", "one row", SMALL | {"hidden_size": 16, "n_layer": 2, "n_head": 2}),
    "alibi of Falcon": (
        "FalconConfig",
        "one row",
        HIDDEN | {"alibi": True, "multi_query": False, "new_decoder_architecture": False},
    ),
    "masks cut by cache slot": (
        "GPTNeoConfig",
        "one row",
        SMALL
        | {
            "hidden_size": 16,
            "num_layers": 2,
            "num_heads": 2,
            "intermediate_size": 32,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 4,
            "max_position_embeddings": 64,
        },
    ),
    "positions of its own": (
        "BartConfig",
        "one row",
        SMALL
        | {
            "d_model": 16,
            "decoder_layers": 1,
            "encoder_layers": 1,
            "decoder_attention_heads": 2,
            "decoder_ffn_dim": 16,
            "max_position_embeddings": 64,
        },
    ),
    "recurrent and full layers": (
        "Qwen3NextConfig",
        "one row",
        WIDE
        | {
            "linear_num_value_heads": 2,
            "linear_num_key_heads": 2,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "num_experts": 2,
            "num_experts_per_tok": 1,
            "moe_intermediate_size": 8,
            "shared_expert_intermediate_size": 8,
        },
    ),
    "recurrent layers": (
        "MambaConfig",
        "one row, token by token",
        SMALL | {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4},
    ),
    "convolutions": (
        "Lfm2Config",
        "one row",
        WIDE | {"layer_types": ["conv", "full_attention"] * 2, "block_ff_dim": 16},
    ),
}

REFUSED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "the cache is ignored": (
        "RwkvConfig",
        "its forward takes no cache",
        SMALL | {"hidden_size": 16, "attention_hidden_size": 16, "num_hidden_layers": 2, "context_length": 64},
    ),
}


def made(name: str, seed: int = 0, **fields: Any) -> Any:
    """A random model whose weights are large enough for every part of it to matter."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(getattr(transformers, name)(**fields)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.3)
    return model


def right(model: Any, prompt: list[int], count: int = COUNT) -> list[int]:
    """Greedy tokens by plain forwards over whole sequences."""
    tokens = list(prompt)
    with torch.inference_mode():
        for _ in range(count):
            tokens.append(int(model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1].argmax()))
    return tokens[len(prompt) :]


@pytest.mark.parametrize("kind", SERVED)
def test_served_models_say_what_they_say_without_a_cache(kind: str) -> None:
    name, way, fields = SERVED[kind]
    model, other = made(name, **fields), made(name, seed=1, **fields)
    wanted = [right(model, prompt) for prompt in PROMPTS]
    for draft in (other, model):
        engine = EagerEngine.from_models(model, draft, penalties=False)
        assert engine.models.served["target"].way.name == way
        for batch_size in (1, 2):
            options = {"max_new_tokens": COUNT, "temperature": 0, "batch_size": batch_size}
            said = engine.generate(PROMPTS, "static:length=3", **options)
            assert said.tokens == wanted
            assert (said.stats.acceptance_rate == 1) == (draft is model)


def test_a_vocabulary_of_one_token_is_served() -> None:
    model = made("GPT2Config", n_embd=16, n_layer=2, n_head=2, n_positions=64, vocab_size=1)
    said = EagerEngine.from_models(model, model).generate([[0]], "static", max_new_tokens=5)
    assert said.tokens == [[0] * 5]


def test_a_window_that_is_unset_is_refused_or_none() -> None:
    fields = WIDE | {"layer_types": ["sliding_attention"] * 4, "sliding_window": None}
    model = made("Qwen3Config", **fields)
    model.config.sliding_window = None
    try:
        wanted = right(model, PROMPTS[0])
    except Exception:
        with pytest.raises(InputError, match=r"engine\.target"):
            EagerEngine.from_models(model, model)
    else:
        said = EagerEngine.from_models(model, model).generate(
            PROMPTS[:1], "static:length=3", max_new_tokens=COUNT, temperature=0
        )
        assert said.tokens == [wanted]


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_served_is_refused_in_one_line(kind: str) -> None:
    name, reason, fields = REFUSED[kind]
    model = made(name, **fields)
    with pytest.raises(InputError, match=reason) as refused:
        EagerEngine.from_models(model, model)
    message = str(refused.value)
    assert message.startswith("engine.target: this rwkv model (RwkvForCausalLM)")
    assert "\n" not in message
    assert len(message) < 500


class Liar(torch.nn.Module):
    """Passes all on to a model, and does one thing wrongly."""

    def __init__(self, model: Any, lie: str) -> None:
        super().__init__()
        self.inner, self.lie = model, lie
        self.config, self.dtype, self.device = model.config, model.dtype, model.device

    def forward(self, input_ids: Any, past_key_values: Any = None, **kwargs: Any) -> Any:
        if self.lie == "ignores positions":
            kwargs.pop("position_ids", None)
        if self.lie == "ignores masks":
            kwargs.pop("attention_mask", None)
        if self.lie == "ignores the cache":
            past_key_values = None
        if self.lie == "forgets rejected tokens wrongly" and past_key_values is not None:
            kwargs["attention_mask"] = torch.zeros_like(kwargs["attention_mask"])
        output = self.inner(input_ids=input_ids, past_key_values=past_key_values, **kwargs)
        if self.lie == "rounds":
            output.logits = output.logits * (1 + 1e-3 * (past_key_values is not None))
        return output


LIES = ("ignores positions", "ignores masks", "ignores the cache", "forgets rejected tokens wrongly", "rounds")


@pytest.mark.parametrize("lie", LIES)
def test_every_lie_about_the_cache_is_found(lie: str) -> None:
    model = Liar(random_model("llama"), lie)
    way = trial.require_equal
    with torch.inference_mode(), pytest.raises(trial.Differs, match="logits are off by"):
        way(model, trial.WAYS[0], trial.Expected(model))


def test_the_same_model_without_a_lie_passes() -> None:
    model = Liar(random_model("llama"), "")
    with torch.inference_mode():
        trial.require_equal(model, trial.WAYS[0], trial.Expected(model))


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every forward of a cached model; no model is known at the start."""
    seen: list[int] = []
    forward = CachedModel.forward

    def counted(self: CachedModel, *args: Any, **kwargs: Any) -> Any:
        seen.append(1)
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(CachedModel, "forward", counted)
    monkeypatch.setattr(trial, "_known", {})
    return seen


def test_a_class_and_config_is_tried_once_a_process(forwards: list[int]) -> None:
    EagerEngine.from_models(random_model("llama", seed=0))
    assert (once := len(forwards)) > 0
    EagerEngine.from_models(random_model("llama", seed=1))
    assert len(forwards) == once
    EagerEngine.from_models(random_model("qwen2"))
    assert len(forwards) == 2 * once
    EagerEngine.from_models(random_model("llama"), trial="always")
    assert len(forwards) == 3 * once


def test_a_trial_can_be_skipped(forwards: list[int]) -> None:
    EagerEngine.from_models(random_model("llama"), trial="never")
    assert forwards == []


def test_windows_are_as_wide_as_before_after_a_trial() -> None:
    config = transformers.MistralConfig(sliding_window=9)
    with narrowed(config, 3):
        assert window_sizes(config) == {"sliding_attention": 3}
    assert window_sizes(config) == {"sliding_attention": 9}


def test_sequences_beside_each_other_on_different_sides_of_longrope() -> None:
    factors = {"short_factor": [1.0] * 4, "long_factor": [1.0, 4.0, 8.0, 16.0]}
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 16, **factors}
    fields = HIDDEN | {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 32}
    fields |= {"rope_parameters": rope, "original_max_position_embeddings": 16, "sliding_window": None}
    model = made("Phi3Config", **fields)
    engine = EagerEngine.from_models(model, model)
    short, long = [3, 4, 5], list(range(3, 33))
    options = {"policy": "static:length=3", "temperature": 0}
    said = engine.generate([short, long, short], max_new_tokens=8, **options).tokens
    assert said == [right(model, prompt, 8) for prompt in (short, long, short)]
    with pytest.raises(InputError, match=r"change at 16 tokens \(longrope\).*prompts\[1\].*max_new_tokens to 13"):
        engine.generate([long, short], max_new_tokens=14, **options)
    assert engine.generate([long], max_new_tokens=14, **options).tokens == [right(model, long, 14)]


def test_a_model_in_training_mode_that_drops_out_is_told_apart() -> None:
    model = made("GPT2Config", **SMALL, n_embd=16, n_layer=1, n_head=2, resid_pdrop=0.5).train()
    with pytest.raises(InputError, match=r"it is in training mode, call model\.eval\(\)"):
        EagerEngine.from_models(model, model)
    EagerEngine.from_models(model.eval(), model)
