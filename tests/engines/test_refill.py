"""More prompts than rows: one that is done makes room for the next, and nothing else changes."""

from typing import Any

import pytest
import torch

from stopkit import Engine, InputError, PolicyError, State, StoppingPolicy, load_policy
from stopkit.generation import Piece
from stopkit.plugins import registry
from stopkit.random import RandomSource
from stopkit.testing import TableModel
from tests.engines.conftest import POLICIES, PROMPTS

OPTIONS: dict[str, Any] = {"temperature": 0.8, "max_new_tokens": 14}
MANY = [*PROMPTS, [5, 5, 5], [9] * 30, [1], [8, 2], [6]]


def ending() -> Engine:
    """An engine whose sequences end at different lengths."""
    generator = torch.Generator().manual_seed(3)
    target, draft = (TableModel.random(10, generator, scale=1.0, end_of_sequence=4, context=64) for _ in range(2))
    return registry().engine("eager").from_models(target, draft, costs={"draft_step": 0.1, "verify": 1.0})


@pytest.mark.parametrize("batch_size", [1, 2, 3, 50])
@pytest.mark.parametrize("policy", [*POLICIES, "heuristic", "ema_length:carry_over=false"])
def test_the_output_is_that_of_all_prompts_side_by_side(policy: str, batch_size: int) -> None:
    engine = ending()
    expected = engine.generate(MANY, policy, seed=3, **OPTIONS)
    result = engine.generate(MANY, policy, seed=3, batch_size=batch_size, **OPTIONS)
    assert result.tokens == expected.tokens
    assert len({len(tokens) for tokens in result.tokens}) > 2, "sequences of one length refill nothing in the middle"
    reasons = [continuation.finish_reason for continuation in result.continuations]
    assert reasons == [continuation.finish_reason for continuation in expected.continuations]
    assert {"eos", "length"} <= set(reasons)
    for counted, wanted in zip(result.continuations, expected.continuations, strict=True):
        assert counted.stats == wanted.stats


def test_rows_of_a_real_model_are_refilled(engine: Engine) -> None:
    expected = engine.generate(PROMPTS, "adaedl", seed=1, **OPTIONS)
    result = engine.generate(PROMPTS, "adaedl", seed=1, batch_size=2, **OPTIONS)
    assert result.tokens == expected.tokens
    assert result.state.rows["threshold"].tolist() == expected.state.rows["threshold"].tolist()
    assert result.stats.target_forwards > expected.stats.target_forwards


def test_a_row_is_refilled_at_once() -> None:
    """Forwards are those of rows that are never empty while somebody waits."""
    engine, one = ending(), {"temperature": 0.8, "seed": 3}
    lengths = [len(tokens) for tokens in engine.generate(MANY, "autoregressive", **one, max_new_tokens=20).tokens]
    free = [0, 0]
    for length in lengths:
        row = free.index(min(free))
        free[row] += length
    stats = engine.generate(MANY, "autoregressive", **one, max_new_tokens=20, batch_size=2).stats
    assert stats.target_forwards == max(free)


def test_forwards_and_seconds_are_told_of_the_rounds_that_a_sequence_took_part_in() -> None:
    engine = ending()
    alone = engine.generate(MANY, "static:length=3", batch_size=1, **OPTIONS)
    for field in ("draft_forwards", "target_forwards"):
        parts = [getattr(continuation.shared, field) for continuation in alone.continuations]
        assert sum(parts) == getattr(alone.stats, field)
    assert [each.shared.target_forwards for each in alone.continuations] == [
        each.stats.rounds for each in alone.continuations
    ]
    seconds = [sum(continuation.shared.seconds.values()) for continuation in alone.continuations]
    assert 0 < sum(seconds) <= sum(alone.stats.seconds.values())


def test_pieces_name_their_prompt() -> None:
    pieces: list[Piece] = []
    tokens = ending().generate(MANY, "static:length=2", batch_size=3, on_piece=pieces.append, **OPTIONS).tokens
    streamed = [
        [token for piece in pieces if piece.sequence == at for token in piece.tokens] for at in range(len(MANY))
    ]
    assert streamed == tokens


def test_what_is_learned_goes_on_from_prompt_to_prompt() -> None:
    engine, policy = ending(), load_policy("adaedl:carry_over=true")
    together = engine.generate(MANY, policy, batch_size=1, seed=3, **OPTIONS)
    state: State | None = None
    for prompt, expected in zip(MANY, together.continuations, strict=True):
        at = MANY.index(prompt)
        seeds = [_seed(3, at)]
        result = engine.generate([prompt], policy, seeds=seeds, state=state, **OPTIONS)
        state = result.state.outlived()
        assert result.continuations[0].stats.drafted == expected.stats.drafted
    assert state is not None
    assert torch.equal(state.shared["threshold"], together.state.shared["threshold"])


def _seed(seed: int, at: int) -> int:
    from stopkit.random import sequence_seeds

    return sequence_seeds(seed, 1, first=at)[0]


def test_a_state_goes_on_sequence_by_sequence() -> None:
    engine = ending()
    first = engine.generate(MANY, "heuristic", seed=3, **OPTIONS)
    expected = engine.generate(MANY, "heuristic", seed=4, state=first.state, **OPTIONS)
    result = engine.generate(MANY, "heuristic", seed=4, state=first.state, batch_size=2, **OPTIONS)
    assert result.tokens == expected.tokens
    assert result.state.rows["length"].tolist() == expected.state.rows["length"].tolist()


class Stumbling(StoppingPolicy):
    """Raises in its twelfth round."""

    kind = "stumbling"

    def init(self, batch_size: int, device: torch.device) -> State:
        return State(shared={"round": torch.zeros(1)})

    def plan(self, state: State, context: Any) -> Any:
        if state.shared["round"] > 10:
            raise ZeroDivisionError
        return context.limit.clamp(max=1), State(shared={"round": state.shared["round"] + 1})


def test_what_was_done_and_what_was_not_begun_is_in_the_partial_result() -> None:
    engine = ending()
    whole = engine.generate(MANY, "static:length=1", batch_size=2, seed=3, **OPTIONS)
    with pytest.raises(PolicyError) as caught:
        engine.generate(MANY, Stumbling(), batch_size=2, seed=3, **OPTIONS)
    partial = caught.value.partial
    assert partial.tokens == [full[: len(part)] for full, part in zip(whole.tokens, partial.tokens, strict=True)]
    assert any(continuation.finish_reason for continuation in partial.continuations)
    assert partial.tokens[-1] == []
    assert partial.stats.tokens == sum(map(len, partial.tokens))


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "2"])
def test_a_batch_size_that_is_none(engine: Engine, wrong: Any) -> None:
    with pytest.raises(InputError, match=r"batch_size: .* is no such thing; give a whole number of prompts above 0"):
        engine.generate(PROMPTS, "static", batch_size=wrong)


def test_a_source_of_randomness_that_cannot_change_sequences(engine: Engine) -> None:
    class Middle(RandomSource):
        def categorical(self, probabilities: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            return probabilities.argmax(-1)

        def run_length(self, survival: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            return (survival > 0.5).sum(-1)

    assert engine.generate(PROMPTS, "static", random=Middle(), max_new_tokens=3).stats.tokens == 12
    with pytest.raises(InputError, match="random: Middle cannot change sequences"):
        engine.generate(PROMPTS, "static", random=Middle(), max_new_tokens=3, batch_size=2)
