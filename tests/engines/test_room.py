"""Memory follows what is said, and not what was asked for; growing changes no token."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from stopkit.plugins import registry
from stopkit_engines.batch.room import STEP, enlarged, roomier
from tests.engines.models import SIZES, WIDE, noisy_copy


@pytest.fixture(scope="module")
def pair() -> tuple[Any, Any]:
    config = LlamaConfig(**SIZES, **WIDE, max_position_embeddings=4_000_000)
    torch.manual_seed(0)
    target = LlamaForCausalLM(config).eval()
    return target, noisy_copy(target)


def test_asking_for_two_million_tokens_takes_no_memory(pair: tuple[Any, Any]) -> None:
    engine = registry().engine("eager").from_models(*pair)
    run = engine.begin([[1, 2, 3]], "static:length=3", max_new_tokens=2_000_000)
    for _ in range(4):
        run.step()
    decoding: Any = run.decoding
    caches = [decoding._target._cache, decoding._draft.runner._cache]
    assert [cache.size for cache in caches] == [STEP, STEP]
    assert all(layer.keys.shape[2] == STEP for cache in caches for layer in cache.layers)
    assert decoding._tokens.shape[1] == STEP


@pytest.mark.parametrize("prompts", [[[1, 2, 3]], [[1, 2, 3], [5] * 100, [7, 8]]])
def test_growing_changes_no_token(pair: tuple[Any, Any], prompts: list[list[int]]) -> None:
    count = 3 * STEP
    engine = registry().engine("eager").from_models(*pair)
    result = engine.generate(prompts, "static:length=5", max_new_tokens=count, temperature=0)
    for prompt, tokens in zip(prompts, result.tokens, strict=True):
        with torch.inference_mode():
            plain = pair[0].generate(torch.tensor([prompt]), max_new_tokens=count, do_sample=False)[0, len(prompt) :]
        assert tokens == plain.tolist()


@pytest.mark.parametrize(("needed", "size", "expected"), [(1, 0, 64), (64, 0, 64), (65, 64, 128), (300, 64, 320)])
def test_sizes(needed: int, size: int, expected: int) -> None:
    assert roomier(needed, size) == expected
    assert roomier(expected, expected) == expected


def test_a_tensor_keeps_what_it_held() -> None:
    before = torch.arange(6).view(2, 3)
    assert enlarged(before, 1, 5).tolist() == [[0, 1, 2, 0, 0], [3, 4, 5, 0, 0]]
    assert enlarged(before, 1, 3) is before
