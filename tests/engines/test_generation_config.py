"""What the target's generation config asks for is done as `generate` does it, or said not to be done."""

from typing import Any

import pytest
import torch

from stopkit import InputError
from stopkit_engines.eager import EagerEngine
from tests.engines.models import noisy_copy, random_model

PROMPTS = [[3, 4], [5, 6, 7, 8, 9], [1]]
COUNT = 14
POLICIES = ("autoregressive", "static:length=3", "adaedl")

SETTINGS: dict[str, dict[str, Any]] = {
    "repetition_penalty": {"repetition_penalty": 3.0},
    "no_repeat_ngram_size": {"no_repeat_ngram_size": 2},
    "bad_words_ids": {"bad_words_ids": [[4], [5, 6]]},
    "suppress_tokens": {"suppress_tokens": list(range(20))},
    "begin_suppress_tokens": {"begin_suppress_tokens": list(range(20))},
    "forced_eos_token_id": {"forced_eos_token_id": 39},
    "min_new_tokens": {"min_new_tokens": 8, "eos_token_id": list(range(0, 40, 3))},
    "min_new_tokens wins over min_length": {
        "min_new_tokens": 4,
        "min_length": 14,
        "eos_token_id": list(range(0, 40, 3)),
    },
    "no end, whatever the config says": {"eos_token_id": None},
    "min_length": {"min_length": 9, "eos_token_id": list(range(0, 40, 3))},
    "sequence_bias": {"sequence_bias": [[[7], 5.0]]},
    "exponential_decay_length_penalty": {"exponential_decay_length_penalty": (2, 1.5), "eos_token_id": 11},
    "end of sequence": {"eos_token_id": [11, 12]},
    "all together": {"repetition_penalty": 1.3, "no_repeat_ngram_size": 3, "suppress_tokens": [1], "min_new_tokens": 3},
}


@pytest.fixture
def target() -> Any:
    return random_model(seed=3)


def said_by_transformers(model: Any, prompt: list[int]) -> list[int]:
    out = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        max_new_tokens=COUNT,
        pad_token_id=0,
    )
    return out[0, len(prompt) :].tolist()


@pytest.mark.parametrize("name", SETTINGS)
def test_it_is_done_as_generate_does_it(target: Any, name: str) -> None:
    target.generation_config.update(**SETTINGS[name])
    wanted = [said_by_transformers(target, prompt) for prompt in PROMPTS]
    for draft in (target, noisy_copy(target)):
        engine = EagerEngine.from_models(target, draft)
        for policy in POLICIES:
            for batch_size in (1, 2, 3):
                result = engine.generate(PROMPTS, policy, max_new_tokens=COUNT, temperature=0, batch_size=batch_size)
                assert result.tokens == wanted
    assert result.in_force is not None
    assert bool(result.in_force.processors) == ("end" not in name)


def test_penalties_can_be_left_out(target: Any) -> None:
    plain = EagerEngine.from_models(target, target).generate(PROMPTS, "static", max_new_tokens=COUNT, temperature=0)
    target.generation_config.repetition_penalty = 3.0
    engine = EagerEngine.from_models(target, target, penalties=False)
    result = engine.generate(PROMPTS, "static", max_new_tokens=COUNT, temperature=0)
    assert result.tokens == plain.tokens
    assert result.in_force is not None
    assert result.in_force.processors == ()


def test_the_users_processors_come_after_the_models(target: Any) -> None:
    target.generation_config.repetition_penalty = 3.0

    def mine(ids: Any, scores: Any) -> Any:
        return scores

    engine = EagerEngine.from_models(target, target)
    result = engine.generate(PROMPTS, "static", max_new_tokens=2, logits_processor=[mine])
    assert result.in_force is not None
    assert result.in_force.processors == ("RepetitionPenaltyLogitsProcessor", "mine")


def test_end_of_sequence_ids_may_be_a_tensor(target: Any) -> None:
    target.generation_config.eos_token_id = torch.tensor([11, 12])
    result = EagerEngine.from_models(target, target).generate(PROMPTS, "static", max_new_tokens=60, seed=1)
    assert any(tokens[-1] in (11, 12) for tokens in result.tokens)
    assert not any(token in (11, 12) for tokens in result.tokens for token in tokens[:-1])


@pytest.mark.parametrize(
    ("settings", "sampling"),
    [
        (
            {"do_sample": True, "temperature": 0.5, "top_p": 0.9, "top_k": 7},
            {"temperature": 0.5, "top_p": 0.9, "top_k": 7},
        ),
        ({"do_sample": True, "top_k": 0}, {"temperature": 1.0}),
        ({"do_sample": True, "min_p": 0.1}, {"temperature": 1.0, "min_p": 0.1, "top_k": 50}),
        ({"do_sample": False, "temperature": 0.5}, {"temperature": 0.0}),
        ({}, {"temperature": 0.0}),
    ],
)
def test_sampling_like_the_model(target: Any, settings: dict[str, Any], sampling: dict[str, Any]) -> None:
    target.generation_config.update(**settings)
    engine = EagerEngine.from_models(target, target)
    result = engine.generate(PROMPTS, "static", max_new_tokens=4, sampling="model", seed=5)
    assert result.in_force is not None
    assert result.in_force.sampling == sampling
    same = engine.generate(PROMPTS, "static", max_new_tokens=4, seed=5, **sampling)
    assert same.tokens == result.tokens


def test_sampling_is_the_models_or_given(target: Any) -> None:
    with pytest.raises(InputError, match=r"generate\.top_p: sampling = 'model' takes it from the model"):
        EagerEngine.from_models(target, target).generate(PROMPTS, "static", top_p=0.5, sampling="model")


def test_what_is_not_done_is_said(target: Any) -> None:
    target.generation_config.update(num_beams=4, guidance_scale=1.5, typical_p=0.9)
    engine = EagerEngine.from_models(target, target)
    result = engine.generate(PROMPTS, "static", max_new_tokens=2)
    assert result.in_force is not None
    assert result.in_force.undone == ("guidance_scale = 1.5", "num_beams = 4")
    result = engine.generate(PROMPTS, "static", max_new_tokens=2, sampling="model")
    assert result.in_force is not None
    assert "typical_p = 0.9" in result.in_force.undone


def test_ends_that_are_not_done_are_said(target: Any) -> None:
    target.generation_config.update(stop_strings=["end"], token_healing=True, max_time=3.0)
    result = EagerEngine.from_models(target, target).generate(PROMPTS, "static", max_new_tokens=2)
    assert result.in_force is not None
    assert result.in_force.undone == ("stop_strings = ['end']", "token_healing = True", "max_time = 3.0")
