"""The target's first layers draft: in the target's cache, with its weights, and without changing what it says."""

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, Gemma3TextConfig, MambaConfig, Qwen3Config

import stopkit
from stopkit import Engine, InputError, load_engine
from stopkit.kinds import as_block
from stopkit.plugins import registry
from stopkit_engines.batch.early_exit import EarlyExit
from stopkit_engines.hf.first_layers import FirstLayers, first_layers
from tests.engines.conftest import PROMPTS
from tests.engines.models import CONFIGS, SIZES, WIDE, random_model
from tests.engines.test_against_transformers import greedy

HEADS = {"head_dim": 8, "num_key_value_heads": 2, "max_position_embeddings": 96}
WINDOWS = {"sliding_window": 5, "layer_types": ["sliding_attention", "sliding_attention", "full_attention"]}
OTHERS = {
    "qwen3": Qwen3Config(**SIZES, **WIDE, **HEADS),
    "gemma3 (windows)": Gemma3TextConfig(**SIZES, **WIDE, **HEADS, **WINDOWS),
}
SHAPES = [*CONFIGS, *OTHERS]
BLOCK = {"kind": "early_exit", "layers": 2}


def with_faint_last_layer(model: Any) -> Any:
    """`model`, whose first layers nearly say what it says."""
    (layers,) = (module for module in model.modules() if isinstance(module, nn.ModuleList))
    with torch.no_grad():
        for parameter in layers[-1].parameters():
            parameter.mul_(0.5)
    return model


@cache
def target_of(shape: str) -> Any:
    if shape in CONFIGS:
        return with_faint_last_layer(random_model(shape))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(OTHERS[shape]).eval()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(8.0)
    return with_faint_last_layer(model)


@cache
def engine_of(shape: str, kind: str = "eager") -> Engine:
    options: dict[str, Any] = {"compile": False} if kind == "compiled" else {}
    return registry().engine(kind).from_models(target_of(shape), BLOCK, **options)


RUNS = [
    ("eager", "llama", 1),
    ("compiled", "llama", 1),
    ("compiled", "llama", 3),
    *(("eager", each, 3) for each in SHAPES),
]


@pytest.mark.parametrize(("kind", "shape", "batch_size"), RUNS)
def test_greedy_is_that_of_generate(kind: str, shape: str, batch_size: int) -> None:
    expected = [greedy(target_of(shape), prompt, 16) for prompt in PROMPTS]
    options: dict[str, Any] = {"temperature": 0, "max_new_tokens": 16, "batch_size": batch_size}
    for policy in ("static:length=4", "adaedl"):
        result = engine_of(shape, kind).generate(PROMPTS, policy, **options)
        assert result.tokens == expected
        assert result.stats.acceptance_rate > 0.4


@pytest.mark.parametrize("shape", SHAPES)
def test_what_drafts_is_the_target_cut_short_and_shares_its_weights(shape: str) -> None:
    target = target_of(shape)
    before = target.config.to_dict()
    short = first_layers(target, 2, "engine.draft")
    assert {id(each) for each in short.parameters()} < {id(each) for each in target.parameters()}
    tokens = torch.tensor([PROMPTS[0]])
    inside = target(tokens, output_hidden_states=True).hidden_states
    norm = next(
        each for name, each in target.named_modules() if name.split(".")[-1] in ("norm", "ln_f", "final_layer_norm")
    )
    wanted = target.get_output_embeddings()(norm(inside[2]))
    assert torch.allclose(short(tokens).logits, wanted, atol=1e-5)
    assert target.config.to_dict() == before


def test_it_never_catches_up_and_holds_no_cache_of_its_own() -> None:
    run = engine_of("llama").begin(PROMPTS, "static:length=3", max_new_tokens=30, temperature=0)
    decoding: Any = run.decoding
    draft: FirstLayers = decoding._draft.runner
    assert draft._cache is decoding._target._cache
    run.step()
    widths: list[int] = []
    while not run.finished:
        run.step()
        widths.append(draft.width)
    assert len(widths) > 3
    assert set(widths) == {1}


@pytest.mark.parametrize("damage", [0.0, 5.0])
def test_what_drafting_leaves_in_the_cache_cannot_reach_the_output(
    damage: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drafts that write nonsense are rejected more, and that is all."""
    see: Callable[..., Any] = FirstLayers.see

    def spoilt(self: FirstLayers, tokens: Any, slots: Any, *rest: Any) -> Any:
        scores = see(self, tokens, slots, *rest)
        for layer in self._cache.layers[:2]:
            layer.values[torch.arange(len(slots)).unsqueeze(1), :, slots] += damage
        return scores

    monkeypatch.setattr(FirstLayers, "see", spoilt)
    result = engine_of("llama").generate(PROMPTS, "static:length=4", temperature=0, max_new_tokens=24)
    assert result.tokens == [greedy(target_of("llama"), prompt, 24) for prompt in PROMPTS]
    assert (result.stats.acceptance_rate < 0.4) == bool(damage)


def test_generate_of_transformers_takes_it() -> None:
    target = target_of("llama")
    plain = {"do_sample": False, "max_new_tokens": 20, "pad_token_id": 0}
    wanted = target.generate(torch.tensor([PROMPTS[0]]), **plain)
    given = target.generate(
        torch.tensor([PROMPTS[0]]), custom_generate=stopkit.assisted, draft_model=BLOCK, policy="adaedl", **plain
    )
    assert torch.equal(wanted, given)


def test_compiled_says_why_the_draft_runs_eagerly(caplog: pytest.LogCaptureFixture) -> None:
    engine = registry().engine("compiled").from_models(target_of("gpt2"), BLOCK, compile=False)
    with caplog.at_level(logging.WARNING, "stopkit"):
        engine.generate(PROMPTS[:1], "static:length=2", max_new_tokens=4)
    assert "engine.draft runs eagerly: it keeps what it sees in the target's cache." in caplog.messages


def test_it_goes_through_a_config() -> None:
    engine: Any = load_engine({"kind": "eager", "draft": BLOCK})
    assert engine.draft == EarlyExit(layers=2)
    assert str(engine.draft) == "early_exit:layers=2"
    assert as_block(load_engine({"kind": "eager", "draft": str(engine.draft)})) == as_block(engine)


@pytest.mark.parametrize("layers", [3, 30])
def test_layers_that_the_target_has_not(layers: int) -> None:
    message = rf"engine\.draft\.layers: got {layers}, and the target has 3 layers, at most 2 can draft\."
    with pytest.raises(InputError, match=message):
        registry().engine("eager").from_models(target_of("llama"), BLOCK | {"layers": layers})


def test_a_target_with_a_cache_of_its_own_is_refused_by_name() -> None:
    torch.manual_seed(0)
    config = MambaConfig(**SIZES, hidden_size=16, num_hidden_layers=3, state_size=4)
    with pytest.raises(InputError, match=r"engine\.draft: early_exit keeps .* this mamba model runs as one row"):
        registry().engine("eager").from_models(AutoModelForCausalLM.from_config(config).eval(), BLOCK)
