"""A generation that its caller drives, round by round."""

from dataclasses import replace
from typing import Any

import pytest

from stopkit import Engine, InputError
from stopkit.generation import Continuation, GenerationResult, Request
from stopkit.plugins import registry
from stopkit.statistics import Statistics
from tests.engines.conftest import PROMPTS

OPTIONS: dict[str, Any] = {"temperature": 0.7, "max_new_tokens": 15, "seed": 2}


@pytest.mark.parametrize("batch_size", [None, 2])
def test_steps_make_what_a_run_makes(engine: Engine, batch_size: int | None) -> None:
    expected = engine.generate(PROMPTS, "adaedl", batch_size=batch_size, **OPTIONS)
    generation = engine.begin(PROMPTS, "adaedl", batch_size=batch_size, **OPTIONS)
    rounds, before = 0, generation.result()
    assert before.tokens == [[], [], [], []]
    while not generation.finished:
        generation.step()
        rounds += 1
        now = generation.result()
        assert now.stats.rounds > before.stats.rounds
        assert all(len(new) >= len(old) for new, old in zip(now.tokens, before.tokens, strict=True))
        before = now
    assert rounds == expected.stats.target_forwards
    assert generation.result().tokens == expected.tokens
    assert generation.run().continuations == generation.result().continuations


def timeless(continuation: Continuation) -> Continuation:
    """Without the seconds, which go on."""
    return replace(continuation, shared=Statistics())


def test_a_result_reads_and_does_not_write(engine: Engine) -> None:
    """Asking in the middle changes no count, no state and no earlier answer."""
    generation = engine.begin(PROMPTS, "static:length=3", **OPTIONS)
    generation.step()
    counts = [sequence.as_dict() for sequence in generation.controller.sequences]
    first, kept = generation.result(), [list(tokens) for tokens in generation.result().tokens]
    again = generation.result()
    assert [timeless(each) for each in again.continuations] == [timeless(each) for each in first.continuations]
    assert [sequence.as_dict() for sequence in generation.controller.sequences] == counts
    generation.run()
    assert first.tokens == kept
    whole = engine.generate(PROMPTS, "static:length=3", **OPTIONS)
    assert generation.result().tokens == whole.tokens
    assert generation.result().stats.drafted == whole.stats.drafted


def test_the_controller_counts_what_was_emitted_before_an_end(engine: Engine) -> None:
    generation = engine.begin(PROMPTS, "static:length=3", **OPTIONS)
    generation.run()
    for counted, continuation in zip(generation.controller.sequences, generation.result().continuations, strict=True):
        assert counted.tokens == counted.accepted + counted.rounds >= continuation.stats.tokens


class Own(registry().engine("eager")):  # type: ignore[misc]
    """Has a loop of its own."""

    kind = "own"
    start = Engine.start

    def run(self, policy: Any, request: Request) -> GenerationResult:
        raise ZeroDivisionError(f"{policy.kind} on {len(request.prompts)} prompts")


def test_an_engine_with_a_loop_of_its_own_steps_in_after_the_input_was_checked(target: Any, draft: Any) -> None:
    engine = Own.from_models(target, draft)
    with pytest.raises(ZeroDivisionError, match="static on 4 prompts"):
        engine.generate(PROMPTS, "static")
    with pytest.raises(InputError, match="max_new_tokens"):
        engine.generate(PROMPTS, "static", max_new_tokens=0)
    with pytest.raises(InputError, match=r"engine\.kind: own decodes in a loop of its own, and cannot be stepped"):
        engine.begin(PROMPTS, "static")
