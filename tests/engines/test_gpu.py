"""The same engine on a CUDA device. The code path differs from the CPU's in nothing but the device."""

from typing import Any

import pytest
import torch

import stopkit
from stopkit.plugins import registry
from tests.engines.conftest import POLICIES, PROMPTS
from tests.engines.models import noisy_copy, random_model
from tests.engines.test_against_transformers import greedy
from tests.engines.test_recording import recorded, same

pytestmark = pytest.mark.gpu


def engine_on_gpu(dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    target = random_model()
    draft = noisy_copy(target)
    return target.to("cuda", dtype), registry().engine("eager").from_models(target, draft.to("cuda", dtype))


@pytest.mark.parametrize("policy", POLICIES)
def test_greedy_output_is_transformers(policy: str) -> None:
    target, engine = engine_on_gpu()
    expected = [greedy(target, prompt, 24) for prompt in PROMPTS]
    assert engine.generate(PROMPTS[0], policy, temperature=0, max_new_tokens=24).tokens == expected[:1]
    assert engine.generate(PROMPTS, policy, temperature=0, max_new_tokens=24).tokens == expected


@pytest.mark.parametrize("policy", POLICIES)
def test_a_row_does_not_depend_on_its_neighbours(policy: str) -> None:
    _, engine = engine_on_gpu()
    options: dict[str, Any] = {"temperature": 0.8, "top_p": 0.9, "max_new_tokens": 24}
    together = engine.generate(PROMPTS, policy, seeds=[1, 2, 3, 4], **options).tokens
    alone = [engine.generate(p, policy, seeds=[s], **options).tokens[0] for s, p in enumerate(PROMPTS, start=1)]
    assert together == alone


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision(dtype: torch.dtype) -> None:
    _, engine = engine_on_gpu(dtype)
    result = engine.generate(PROMPTS, "adaedl", temperature=0.7, max_new_tokens=40)
    assert [len(tokens) for tokens in result.tokens] == [40] * len(PROMPTS)
    assert result.stats.accepted > 0


def test_seconds_are_split_by_events() -> None:
    _, engine = engine_on_gpu()
    seconds = engine.generate(PROMPTS, "adaedl", max_new_tokens=40).stats.seconds
    assert min(seconds.values()) > 0
    assert seconds["verify"] + seconds["draft"] > seconds["policy"]


def test_a_recording_is_that_of_the_cpu() -> None:
    target = random_model()
    draft = noisy_copy(target)
    cls = registry().engine("eager")
    expected = recorded(cls.from_models(target, draft), temperature=0, hidden_state=True)
    found = recorded(cls.from_models(target.to("cuda"), draft.to("cuda")), temperature=0, hidden_state=True)
    for ours, theirs in zip(found, expected, strict=True):
        same(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_recording_in_half_precision(dtype: torch.dtype) -> None:
    _, engine = engine_on_gpu(dtype)
    found = recorded(engine, temperature=0.7, rollouts=3, top_k_logits=2, hidden_state=True)
    assert all(rollouts.columns["accepted"].any() for rollouts in found)
    assert min(engine.timings(4).verify) > 0
    assert engine.identity().target["dtype"] == str(dtype).removeprefix("torch.")


@pytest.mark.parametrize("where", ["cuda", "cpu"])
def test_generate_with_stopkit_is_generate(where: str) -> None:
    target = random_model()
    draft = noisy_copy(target).to("cuda")
    target = target.to("cuda")
    ids = torch.tensor([[0, 0, 5, 6, 7], [1, 2, 3, 4, 5]], device=where)
    options: dict[str, Any] = {"attention_mask": (ids != 0).long(), "max_new_tokens": 16, "repetition_penalty": 1.3}
    plain = target.generate(ids, **options, do_sample=False)
    ours = target.generate(ids, **options, do_sample=False, custom_generate=stopkit.assisted, draft_model=draft)
    assert ours.device == plain.device
    assert torch.equal(ours, plain)
