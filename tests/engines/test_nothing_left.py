"""Where nothing is left to sample, it is said, with what was generated; processors cannot reach the engine."""

from typing import Any

import pytest
import torch
from torch import Tensor

from stopkit import Engine, GenerationError
from stopkit.sampling import Sampling
from tests.engines.conftest import PROMPTS


def forbids_all(ids: Tensor, scores: Tensor) -> Tensor:
    return torch.full_like(scores, -torch.inf)


def gives_nan(ids: Tensor, scores: Tensor) -> Tensor:
    return scores * torch.nan


def gives_infinity(ids: Tensor, scores: Tensor) -> Tensor:
    return scores.clone().index_fill_(1, torch.tensor([3]), torch.inf)


def later(processor: Any, length: int = 24) -> Any:
    """`processor` once a sequence has `length` tokens."""

    def later_on(ids: Tensor, scores: Tensor) -> Tensor:
        return processor(ids, scores) if ids.shape[1] >= length else scores

    later_on.__name__ = processor.__name__
    return later_on


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1e-30])
@pytest.mark.parametrize("policy", ["static:length=3", "autoregressive"])
@pytest.mark.parametrize("processor", [forbids_all, gives_nan, gives_infinity])
def test_processors_that_leave_nothing(engine: Engine, processor: Any, policy: str, temperature: float) -> None:
    options: dict[str, Any] = {"temperature": temperature, "max_new_tokens": 30}
    message = rf"after token \d+ of prompt \d .*leave no token to sample.*{processor.__name__}"
    with pytest.raises(GenerationError, match=message) as raised:
        engine.generate(PROMPTS, policy, logits_processor=[later(processor)], **options)
    partial = raised.value.partial
    assert 0 < sum(map(len, partial.tokens)) < len(PROMPTS) * 30
    assert all(0 <= token < 40 for tokens in partial.tokens for token in tokens)
    assert partial.stats.tokens == sum(map(len, partial.tokens))


def only_below(limit: int) -> Any:
    return lambda ids, scores: scores.masked_fill(torch.arange(scores.shape[1]) >= limit, -torch.inf)


def test_of_several_processors_the_one_at_fault_is_named(engine: Engine) -> None:
    def warms(ids: Tensor, scores: Tensor) -> Tensor:
        return scores / 2

    for processors, place in (([later(forbids_all), warms, warms], 1), ([warms, warms, later(gives_nan)], 3)):
        name = processors[place - 1].__name__
        with pytest.raises(GenerationError, match=rf"after `{name}`, number {place} of 3, no logit is finite"):
            engine.generate(PROMPTS, "static:length=3", max_new_tokens=30, logits_processor=processors)


def test_what_two_processors_forbid_together_is_said_of_the_second(engine: Engine) -> None:
    def only_above(ids: Tensor, scores: Tensor) -> Tensor:
        return scores.masked_fill(torch.arange(scores.shape[1]) < 20, -torch.inf)

    with pytest.raises(GenerationError, match="after `only_above`, number 2 of 2"):
        engine.generate(PROMPTS, "static:length=3", logits_processor=[only_below(20), only_above])


def test_processors_get_copies(engine: Engine) -> None:
    def spoils(ids: Tensor, scores: Tensor) -> Tensor:
        kept = scores.clone()
        ids.zero_()
        scores.zero_()
        return kept

    options: dict[str, Any] = {"temperature": 0, "max_new_tokens": 20}
    expected = engine.generate(PROMPTS, "static:length=3", **options).tokens
    assert engine.generate(PROMPTS, "static:length=3", logits_processor=[spoils], **options).tokens == expected


def test_every_processor_counts_in_order(engine: Engine) -> None:
    def only_even(ids: Tensor, scores: Tensor) -> Tensor:
        return scores.masked_fill(torch.arange(scores.shape[1]) % 2 == 1, -torch.inf)

    for processors in ([only_below(20), only_even], [only_even, only_below(20)]):
        result = engine.generate(PROMPTS, "static:length=3", max_new_tokens=30, logits_processor=processors)
        assert {token for tokens in result.tokens for token in tokens} <= set(range(0, 20, 2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [0.0, 1e-300, 1e-45, 1e-38, 1e-30, 1e-8])
def test_small_temperatures_mean_the_most_probable_token(dtype: torch.dtype, temperature: float) -> None:
    logits = torch.tensor([[1.0, 3.0, -2.0, -torch.inf], [60000.0, -60000.0, 0.0, 1.0]], dtype=dtype)
    p = Sampling(temperature=temperature).probabilities(logits)
    assert p.tolist() == [[0, 1, 0, 0], [1, 0, 0, 0]]


@pytest.mark.parametrize("small", [1e-300, 1e-45, 1e-30])
def test_a_small_top_p_keeps_the_most_probable_token(small: float) -> None:
    p = Sampling(top_p=small).probabilities(torch.tensor([[1.0, 3.0, 2.0]]))
    assert p.tolist() == [[0, 1, 0]]


@pytest.mark.parametrize("share", [1.0, 0.999999])
def test_the_largest_min_p_keeps_the_most_probable_tokens(share: float) -> None:
    p = Sampling(min_p=share).probabilities(torch.tensor([[3.0, 3.0, 2.0], [0.0, 1.0, 0.5]]))
    assert p.tolist() == [[0.5, 0.5, 0], [0, 1, 0]]


def test_a_tie_at_the_border_of_top_p_keeps_no_more_than_it_needs() -> None:
    p = Sampling(top_p=0.5).probabilities(torch.tensor([[0.0, 0.0, 0.0, 0.0]], dtype=torch.float64))
    assert (p > 0).sum() == 2


def fails(ids: Tensor, scores: Tensor) -> Tensor:
    raise KeyError("mine")


def gives_nothing(ids: Tensor, scores: Tensor) -> Any:
    return None


def gives_too_little(ids: Tensor, scores: Tensor) -> Tensor:
    return scores[:, :-1]


@pytest.mark.parametrize(
    ("processor", "reason"),
    [(fails, "mine"), (gives_nothing, "NoneType"), (gives_too_little, r"scores \[1, 39\] for \[1, 40\]")],
)
def test_a_processor_that_fails_is_named(engine: Engine, processor: Any, reason: str) -> None:
    message = rf"`{processor.__name__}`, number 2 of 2, fails after token \d+ of prompt \d.*{reason}"
    with pytest.raises(GenerationError, match=message) as raised:
        engine.generate(PROMPTS, "static:length=3", logits_processor=[only_below(30), later(processor)])
    assert sum(map(len, raised.value.partial.tokens)) > 0
