"""The sampled distribution is what transformers' warpers give, and the reference that the exact proof uses."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from stopkit.sampling import Sampling
from stopkit.signals import compute, entropy, margin, max_probability
from stopkit.testing.exact import reference_probabilities

OPTIONS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.5},
    {"temperature": 1.7, "top_k": 5},
    {"top_p": 0.7},
    {"min_p": 0.2},
    {"temperature": 0.8, "top_k": 20, "top_p": 0.9, "min_p": 0.05},
    {"top_k": 1},
    {"top_p": 0.01},
    {"top_k": 1000, "top_p": 1.0, "min_p": 0.0},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_agrees_with_transformers(options: dict[str, Any]) -> None:
    logits = 3 * torch.randn(64, 50, generator=torch.Generator().manual_seed(0))
    warpers = LogitsProcessorList([TemperatureLogitsWarper(float(options.get("temperature", 1.0)))])
    for name, warper in (("top_k", TopKLogitsWarper), ("top_p", TopPLogitsWarper), ("min_p", MinPLogitsWarper)):
        if name in options:
            warpers.append(warper(options[name]))
    expected = warpers(None, logits).softmax(-1)
    torch.testing.assert_close(Sampling(**options).probabilities(logits), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("options", [*OPTIONS, {"temperature": 0.0}, {"temperature": 0.0, "top_p": 0.5}], ids=str)
@given(seed=st.integers(0, 10_000), vocabulary=st.integers(1, 12))
def test_agrees_with_the_reference(options: dict[str, Any], seed: int, vocabulary: int) -> None:
    logits = 2 * torch.randn(vocabulary, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    found = Sampling(**options).probabilities(logits)
    expected = reference_probabilities(logits.tolist(), **options)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), atol=1e-14, rtol=1e-12)


def test_greedy_is_one_hot_of_the_first_largest() -> None:
    logits = torch.tensor([[1.0, 3.0, 3.0], [2.0, -1.0, 0.0]])
    assert Sampling(temperature=0).probabilities(logits).tolist() == [[0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_half_precision_is_widened(dtype: torch.dtype) -> None:
    p = Sampling().probabilities(torch.randn(3, 1000).to(dtype))
    assert p.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(p.sum(-1), torch.ones(3, dtype=p.dtype))


def test_signals_are_of_the_sampled_distribution_or_the_plain_softmax_when_greedy() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0]])
    for options, shown in [({"temperature": 2.0}, logits / 2), ({"temperature": 0.0}, logits)]:
        sampling = Sampling(**options)
        q = sampling.probabilities(logits)
        torch.testing.assert_close(sampling.shown(logits, q), shown.softmax(-1))


def test_signal_values() -> None:
    uniform, one_hot = torch.full((1, 8), 1 / 8), torch.eye(8)[:1]
    torch.testing.assert_close(entropy(uniform), torch.tensor([8.0]).log())
    assert entropy(one_hot).tolist() == [0]
    assert (max_probability(one_hot).tolist(), margin(one_hot).tolist()) == ([1], [1])
    assert (margin(uniform).tolist(), margin(torch.ones(1, 1)).tolist()) == ([0], [1])


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 1000])
def test_the_margin_is_found_wherever_the_two_best_are(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    for scale in (0, 1, 5):
        p = (scale * torch.randn(4, 3, size, generator=generator, dtype=torch.float64)).softmax(-1)
        ordered = torch.nn.functional.pad(p, (0, 1)).sort(descending=True).values
        assert torch.equal(margin(p), ordered[..., 0] - ordered[..., 1])
        assert torch.allclose(entropy(p), torch.special.entr(p).sum(-1), rtol=1e-12)


def test_only_what_was_asked_for_is_computed() -> None:
    def fail() -> torch.Tensor:
        raise AssertionError("the distribution was not needed")

    logits = torch.zeros(2, 3)
    assert compute({"logits"}, fail, logits).logits is logits
    signals = compute({"entropy"}, lambda: logits.softmax(-1), logits)
    with pytest.raises(AttributeError, match="signal 'margin' was not computed; add it to the policy's `signals`"):
        _ = signals.margin
    with pytest.raises(AttributeError, match="there is no signal 'surprise'"):
        _ = signals.surprise
    with pytest.raises(ValueError, match=r"unknown signals \['surprise'\]"):
        compute({"surprise"}, fail, logits)
    with pytest.raises(ValueError, match="reads hidden_state"):
        compute({"hidden_state"}, fail, logits)
