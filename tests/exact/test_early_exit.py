"""The promise holds where the target's first layers draft in the target's own cache: a GPT-2 in float64, enumerated."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from stopkit.testing import assert_distribution_preserved
from stopkit_engines.hf.first_layers import FirstLayers

POLICIES = ["static:length=3", "adaedl:max_draft=3,threshold=0.45", "drawn_probability", "heuristic:start=2"]
SAMPLING = [{"temperature": 1.0}, {"temperature": 0.6, "top_p": 0.8}, {"temperature": 0.0}]
DRAFT = {"kind": "early_exit", "layers": 1}


@cache
def target() -> Any:
    torch.manual_seed(3)
    none = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    config = GPT2Config(vocab_size=3, n_embd=8, n_layer=2, n_head=2, n_positions=32, initializer_range=0.5, **none)
    return GPT2LMHeadModel(config).double().eval()


@pytest.mark.parametrize("sampling", SAMPLING)
@pytest.mark.parametrize("policy", POLICIES)
def test_the_first_layers_draft(policy: str, sampling: dict[str, float]) -> None:
    distance = assert_distribution_preserved(
        policy, target(), DRAFT, [0, 1, 2, 0], 3, neighbours=[[1], [2, 2]], **sampling
    )
    assert distance < 1e-12


def test_rows_that_are_refilled() -> None:
    assert_distribution_preserved(
        POLICIES[0], target(), DRAFT, [0, 1], 2, neighbours=[[1], [2, 2, 1]], batch_size=2, rows=16
    )


def test_drafting_that_writes_over_what_the_target_keeps_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    see: Callable[..., Any] = FirstLayers.see
    monkeypatch.setattr(
        FirstLayers, "see", lambda self, tokens, slots, *rest: see(self, tokens, (slots - 1).clamp(min=0), *rest)
    )
    with pytest.raises(AssertionError):
        assert_distribution_preserved(POLICIES[0], target(), DRAFT, [0, 1], 3)
