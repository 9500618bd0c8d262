"""Sampling from a real transformer: 100,000 tokens fit the target's own distribution (chi-square, seeded)."""

from typing import Any

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig

from stopkit.plugins import registry
from stopkit.testing import target_distribution
from tests.engines.models import noisy_copy

VOCABULARY, HORIZON, ROWS, BATCHES = 5, 4, 2500, 10
PROMPT = [3, 1, 4]


def small_model() -> Any:
    torch.manual_seed(3)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=VOCABULARY, eos_token_id=None, max_position_embeddings=16, **sizes)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(20)
    return model


@pytest.mark.parametrize(
    ("temperature", "policy"),
    [(0.7, "adaedl:threshold=0.4"), (1.0, "max_probability:threshold=0.4,stop_token=include")],
)
def test_real_model(policy: str, temperature: float) -> None:
    target = small_model()
    engine = registry().engine("eager").from_models(target, noisy_copy(target, noise=0.03))
    with torch.no_grad():
        expected = target_distribution(target, PROMPT, HORIZON, temperature=temperature)
    found = dict.fromkeys(expected, 0)
    drafted = accepted = 0
    for batch in range(BATCHES):
        result = engine.generate([PROMPT] * ROWS, policy, seed=batch, temperature=temperature, max_new_tokens=HORIZON)
        drafted, accepted = drafted + result.stats.drafted, accepted + result.stats.accepted
        for tokens in result.tokens:
            found[tuple(tokens)] += 1
    count = ROWS * BATCHES
    assert count * HORIZON >= 100_000
    assert 0.3 < accepted / drafted < 0.98  # both branches of verification are busy
    assert p_value(torch.tensor(list(found.values())), torch.tensor(list(expected.values())) * count) > 1e-3


def p_value(found: Tensor, expected: Tensor) -> float:
    """Of Pearson's chi-square, with outcomes expected fewer than ten times pooled."""
    rare = expected < 10
    pooled = [torch.cat([counts[~rare], counts[rare].sum()[None]]) for counts in (found.double(), expected.double())]
    statistic = ((pooled[0] - pooled[1]) ** 2 / pooled[1].clamp(min=1e-9)).sum()
    return float(chi2.sf(float(statistic), len(pooled[0]) - 1))


def test_the_statistic_can_fail() -> None:
    expected = torch.full((50,), 2000.0)
    generator = torch.Generator().manual_seed(0)
    fair = torch.poisson(expected, generator=generator)
    assert p_value(fair, expected) > 1e-3
    assert p_value(fair * torch.linspace(0.9, 1.1, 50), expected) < 1e-6
