"""At temperature 1 the output has the target's law, and an engine that breaks the rule is caught."""

from dataclasses import replace
from typing import Any

import pytest

from law import Law, law_of
from stopkit_vllm import v1
from stopkit_vllm.drawing import Drawing, draw
from work import WORK, generate, served


@pytest.fixture(scope="module")
def wide() -> Any:
    """Forty seats."""
    return served(max_num_seqs=40, max_model_len=192, seed=1)


def sampled(llm: Any, policy: str, name: str) -> Law:
    llm.collective_rpc("stopkit_use", args=(policy,))
    return law_of(WORK[name][0], generate(llm, name, temperature=1.0))


def test_the_output_has_the_law_of_the_target(wide: Any) -> None:
    law = sampled(wide, "max_probability:threshold=0.3", "law")
    assert law.tokens >= 20_000
    assert law.holds, law


def test_a_hook_that_takes_back_drawn_tokens_is_caught(wide: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks at a token that was drawn, and ends the block before it if it was improbable."""

    def draw_and_look(*arguments: Any) -> Drawing:
        drawing = draw(*arguments)
        return replace(drawing, usable=drawing.usable & (drawing.probability > 0.3))

    monkeypatch.setattr(v1, "draw", draw_and_look)
    law = sampled(wide, "static:length=4", "control")
    print(law)
    assert not law.holds, law
