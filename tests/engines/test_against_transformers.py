"""At temperature 0 every policy gives, token for token, what transformers' own greedy `generate` gives."""

from functools import cache
from typing import Any

import pytest
import torch

from stopkit import Engine, load_engine
from stopkit.pair.corpus import held_out_prompts
from stopkit.plugins import registry
from tests.engines.conftest import POLICIES, PROMPTS
from tests.engines.models import CONFIGS, noisy_copy, random_model


def greedy(model: Any, prompt: list[int], count: int) -> list[int]:
    output = model.generate(
        torch.tensor([prompt], device=model.device),
        attention_mask=torch.ones(1, len(prompt), device=model.device),
        do_sample=False,
        max_new_tokens=count,
    )
    return list(output[0, len(prompt) :].tolist())


@cache
def engine_and_expected(architecture: str) -> tuple[Engine, list[list[int]]]:
    target = random_model(architecture)
    engine = registry().engine("eager").from_models(target, noisy_copy(target))
    return engine, [greedy(target, prompt, 24) for prompt in PROMPTS]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("architecture", CONFIGS)
def test_random_models(architecture: str, policy: str) -> None:
    engine, expected = engine_and_expected(architecture)
    assert engine.generate(PROMPTS[0], policy, temperature=0, max_new_tokens=24).tokens == expected[:1]
    assert engine.generate(PROMPTS, policy, temperature=0, max_new_tokens=24).tokens == expected


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_attention_implementations(attention: str) -> None:
    target = random_model(attn_implementation=attention)
    engine = registry().engine("eager").from_models(target, noisy_copy(target))
    expected = [greedy(target, prompt, 30) for prompt in PROMPTS]
    assert engine.generate(PROMPTS, "static:length=3", temperature=0, max_new_tokens=30).tokens == expected


@cache
def bundled_expected() -> tuple[Engine, list[list[int]], list[list[int]]]:
    engine = load_engine({"kind": "eager", "device": "cpu", "dtype": "float32"})
    prompts = [engine.models.tokenizer(text)["input_ids"] for text in held_out_prompts(4)]
    prompts = [prompt[-20 * (index + 1) :] for index, prompt in enumerate(prompts)]
    return engine, prompts, [greedy(engine.models.target, prompt, 24) for prompt in prompts]


@pytest.mark.parametrize("policy", POLICIES)
def test_bundled_pair(policy: str) -> None:
    engine, prompts, expected = bundled_expected()
    assert engine.generate(prompts[0], policy, temperature=0, max_new_tokens=24).tokens == expected[:1]
    assert engine.generate(prompts, policy, temperature=0, max_new_tokens=24).tokens == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_runs_and_agrees_between_policies(dtype: torch.dtype) -> None:
    # Rounding differs between a forward over one token and over a block, so only the first tokens are comparable.
    target = random_model(sharpness=30.0).to(dtype)
    engine = registry().engine("eager").from_models(target, noisy_copy(target))
    outputs = [engine.generate(PROMPTS, policy, temperature=0, max_new_tokens=20) for policy in POLICIES]
    assert all(len(tokens) == 20 for output in outputs for tokens in output.tokens)
    assert all([row[:2] for row in output.tokens] == [row[:2] for row in outputs[0].tokens] for output in outputs)
