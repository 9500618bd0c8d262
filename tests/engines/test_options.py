"""What a user can ask of a generation: where it ends, what it shows on the way, how it is sampled."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LogitsProcessorList, RepetitionPenaltyLogitsProcessor

from stopkit import Engine, InputError
from stopkit.generation import Origin, Piece
from stopkit.plugins import registry
from stopkit.testing import TableModel
from tests.engines.conftest import POLICIES, PROMPTS
from tests.engines.test_against_transformers import bundled_expected

EAGER = registry().engine("eager")


def counter(end: int | None = None, context: int = 64, vocabulary: int = 10) -> TableModel:
    """Says the token after the last one, always: 3 → 4 → 5 …"""
    logits = torch.full((vocabulary + 1, vocabulary), -20.0, dtype=torch.float64)
    for seen in range(vocabulary + 1):
        logits[seen, seen % vocabulary] = 20.0
    return TableModel.from_logits(logits, end_of_sequence=end, context=context)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_max_new_tokens_is_met_and_never_exceeded(engine: Engine, policy: str, count: int) -> None:
    result = engine.generate(PROMPTS, policy, max_new_tokens=count, temperature=0.5)
    assert [len(tokens) for tokens in result.tokens] == [count] * len(PROMPTS)
    assert {c.finish_reason for c in result.continuations} == {"length"}


@pytest.mark.parametrize("policy", POLICIES)
def test_end_of_sequence_in_the_middle_of_a_block(policy: str) -> None:
    engine = EAGER.from_models(counter(end=6), counter())
    result = engine.generate([[1], [5], [6]], policy, temperature=0, max_new_tokens=8)
    assert result.tokens == [[2, 3, 4, 5, 6], [6], [7, 8, 9, 0, 1, 2, 3, 4]]
    assert [c.finish_reason for c in result.continuations] == ["eos", "eos", "length"]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_full_context_ends_a_sequence(policy: str) -> None:
    engine = EAGER.from_models(counter(context=8), counter(context=5))
    result = engine.generate([[1, 2, 3], [3]], policy, temperature=0, max_new_tokens=20)
    assert result.tokens == [[4, 5, 6, 7, 8], [4, 5, 6, 7, 8, 9, 0]]
    assert [c.finish_reason for c in result.continuations] == ["context", "context"]


def test_finished_rows_beside_live_ones_draft_nothing() -> None:
    engine = EAGER.from_models(counter(end=4), counter())
    result = engine.generate([[3], [5]], "static:length=3", temperature=0, max_new_tokens=9)
    short, long = (c.stats for c in result.continuations)
    assert (short.rounds, short.drafted, short.accepted, short.tokens) == (1, 1, 1, 1)
    assert (long.rounds, long.tokens) == (3, 9)


class Letters:
    """A tokenizer of single letters; token 0 is half a letter."""

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) - ord("a") for letter in text]}

    def decode(self, tokens: list[int], skip_special_tokens: bool = True) -> str:
        return "".join("\ufffd" if token == 0 else chr(ord("a") + token) for token in tokens)


@pytest.mark.parametrize("policy", POLICIES)
def test_stop_strings(policy: str) -> None:
    engine = EAGER.from_models(counter(), counter(), Letters())
    pieces: list[Piece] = []
    result = engine.generate(
        ["b", "e"], policy, temperature=0, max_new_tokens=6, stop=["fg", "hij"], on_piece=pieces.append
    )
    assert result.text == ["cde", "fghij"[:0]]
    assert result.tokens == [[2, 3, 4, 5, 6], [5, 6]]
    assert [c.finish_reason for c in result.continuations] == ["stop", "stop"]
    assert "".join(piece.text for piece in pieces if piece.sequence == 0) == "cde"


def test_half_of_a_stop_string_is_held_back_and_shown_in_the_end() -> None:
    engine = EAGER.from_models(counter(), counter(), Letters())
    pieces: list[Piece] = []
    engine.generate("b", "autoregressive", temperature=0, max_new_tokens=3, stop=["efx"], on_piece=pieces.append)
    assert [piece.text for piece in pieces] == ["", "", "cde"]


def test_unfinished_characters_are_held_back() -> None:
    engine = EAGER.from_models(counter(), counter(), Letters())
    pieces: list[Piece] = []
    result = engine.generate("i", "autoregressive", temperature=0, max_new_tokens=3, on_piece=pieces.append)
    assert [piece.text for piece in pieces] == ["j", "", "\ufffdb"]
    assert result.text == ["j\ufffdb"]


@pytest.mark.parametrize("policy", POLICIES)
def test_streaming_adds_up(policy: str) -> None:
    engine, prompts, _ = bundled_expected()
    pieces: list[Piece] = []
    result = engine.generate(prompts, policy, temperature=0.7, max_new_tokens=20, on_piece=pieces.append)
    for row, continuation in enumerate(result.continuations):
        mine = [piece for piece in pieces if piece.sequence == row]
        assert [t for piece in mine for t in piece.tokens] == continuation.tokens
        assert [o for piece in mine for o in piece.origins] == continuation.origins
        assert "".join(piece.text for piece in mine) == continuation.text
        assert continuation.text == engine.models.tokenizer.decode(continuation.tokens, skip_special_tokens=True)
        assert [piece.finish_reason for piece in mine][-1] == continuation.finish_reason


def test_origins(engine: Engine) -> None:
    result = engine.generate(PROMPTS, "static:length=3", temperature=0.9, max_new_tokens=50)
    for continuation in result.continuations:
        counts = {origin: continuation.origins.count(origin) for origin in Origin}
        assert counts[Origin.ACCEPTED] == continuation.stats.accepted
        assert counts[Origin.RESIDUAL] + counts[Origin.BONUS] == continuation.stats.rounds
        assert min(counts.values()) > 0


@pytest.mark.parametrize("policy", POLICIES)
def test_logits_processors_see_each_row_as_transformers_shows_it(engine: Engine, target: Any, policy: str) -> None:
    processors = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(1.8)])
    for prompt in PROMPTS:
        expected = target.generate(
            torch.tensor([prompt]), do_sample=False, max_new_tokens=24, logits_processor=processors
        )[0, len(prompt) :].tolist()
        assert engine.generate(
            [prompt], policy, temperature=0, max_new_tokens=24, logits_processor=processors
        ).tokens == [expected]
    batch = engine.generate(PROMPTS, policy, temperature=0, max_new_tokens=24, logits_processor=processors)
    assert batch.tokens[-1] == expected


def test_logits_processors_apply_to_the_draft_too(engine: Engine) -> None:
    def only_even(prefix: Tensor, scores: Tensor) -> Tensor:
        return scores.masked_fill(torch.arange(scores.shape[-1]) % 2 == 1, -torch.inf)

    result = engine.generate(PROMPTS, "static:length=4", max_new_tokens=40, logits_processor=[only_even])
    assert all(token % 2 == 0 for tokens in result.tokens for token in tokens)
    assert result.stats.acceptance_rate > 0.2


def test_what_a_policy_learned_can_be_carried_over(engine: Engine) -> None:
    first = engine.generate(PROMPTS, "adaedl", max_new_tokens=30)
    second = engine.generate(PROMPTS, "adaedl", max_new_tokens=1, state=first.state)
    assert second.state.rows["threshold"].tolist() == first.state.rows["threshold"].tolist() != [0.7] * len(PROMPTS)
    with pytest.raises(InputError, match="state: belongs to another number of sequences"):
        engine.generate(PROMPTS[0], "adaedl", state=first.state)


def test_what_sequences_share_outlives_them(engine: Engine) -> None:
    policy = "adaedl:carry_over=true"
    first = engine.generate(PROMPTS, policy, max_new_tokens=30)
    second = engine.generate(PROMPTS[0], policy, max_new_tokens=1, state=first.state)
    assert second.state.shared["threshold"].tolist() == first.state.shared["threshold"].tolist() != [0.7]


def test_text_prompts_and_token_prompts_agree() -> None:
    engine, prompts, _ = bundled_expected()
    text = engine.models.tokenizer.decode(prompts[0])
    assert (
        engine.generate(text, "adaedl", temperature=0, max_new_tokens=8).tokens
        == engine.generate([prompts[0]], "adaedl", temperature=0, max_new_tokens=8).tokens
    )


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ([], {}, "prompts: there is none"),
        ([[]], {}, r"prompts\[0\]: is empty"),
        ([[1], []], {}, r"prompts\[1\]: is empty"),
        ([list(range(40)) * 3], {}, r"prompts\[0\]: has 120 tokens, and the target's context is 96; shorten it"),
        (["text"], {}, r"prompts\[0\]: is text, and this engine was given no tokenizer"),
        ([[1, 40]], {}, r"prompts\[0\]: token 40 is not in the vocabulary of 40"),
        ([[1]], {"temperature": -0.1}, "temperature: input should be greater than or equal to 0"),
        ([[1]], {"temperature": float("nan")}, "temperature: input should be a finite number"),
        ([[1]], {"temperature": "warm"}, "temperature: input should be a valid number"),
        ([[1]], {"top_p": 1.5}, "top_p: input should be less than or equal to 1"),
        ([[1]], {"max_new_tokens": 0}, "max_new_tokens: input should be greater than or equal to 1"),
        ([[1]], {"temprature": 1}, "temprature: unknown field. Did you mean 'temperature'"),
        ([[1]], {"stop": ["x"]}, "stop: stop strings need a tokenizer"),
        ([[1], [2]], {"seeds": [1]}, "seeds: 1 for 2 prompts"),
        ([[1]], {"seeds": 3}, "seeds: 3 is no such thing; give a whole number of 64 bits for each prompt"),
        ([[1]], {"seeds": ["a"]}, "seeds: .* is no such thing"),
        ([[1]], {"seeds": [1 << 70]}, "seeds: .* is no such thing"),
        ([[1]], {"batch_size": True}, "batch_size: True is no such thing; give a whole number of prompts above 0"),
        ([[1]], {"state": {}}, "state: {} is no such thing; give the state of an earlier result"),
        ([[1]], {"random": 7}, "random: 7 is no such thing; give a RandomSource"),
        ([[1]], {"logits_processor": print}, "logits_processor: .* give a list of functions"),
        ([[1]], {"logits_processor": [3]}, "logits_processor: .* give a list of functions"),
        ([[1]], {"on_piece": "show"}, "on_piece: 'show' is no such thing; give a function"),
    ],
)
def test_bad_input(engine: Engine, prompts: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        engine.generate(prompts, "static", **options)
