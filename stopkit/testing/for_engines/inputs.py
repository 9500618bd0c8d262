"""Wrong input is refused before anything is generated, by an InputError that names the place."""

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st

from stopkit.engine import Engine
from stopkit.errors import InputError
from stopkit.generation import GenerationResult
from stopkit.testing.checks import Draw
from stopkit.testing.for_engines.drafting import Blocks
from stopkit.testing.for_engines.workloads import letters, over, raised
from stopkit.testing.table_model import TableModel

VOCABULARY, CONTEXT = 3, 8

PROMPTS: list[tuple[Any, str]] = [
    ([], "prompts"),
    ([[]], "prompts[0]"),
    ([[1], []], "prompts[1]"),
    ([[0] * CONTEXT], "prompts[0]"),
    ([[1], [2] * (CONTEXT + 5)], "prompts[1]"),
    ([[VOCABULARY]], "prompts[0]"),
    ([[1], [0, -1]], "prompts[1]"),
    (["a"], "prompts[0]"),
]
"""Prompts for an engine without a tokenizer, and the place that the error must name."""

TEXTS = [([], "prompts"), ([""], "prompts[0]"), (["a", ""], "prompts[1]"), (["a" * CONTEXT], "prompts[0]")]
"""Prompts for an engine with one."""

OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": float("nan")}, "temperature"),
    ({"temperature": "warm"}, "temperature"),
    ({"top_k": 0}, "top_k"),
    ({"top_p": 1.5}, "top_p"),
    ({"min_p": -1}, "min_p"),
    ({"max_new_tokens": 0}, "max_new_tokens"),
    ({"seed": -1}, "seed"),
    ({"temprature": 1}, "temprature"),
    ({"stop": ["a"]}, "stop"),
    ({"seeds": [1, 2]}, "seeds"),
]
"""Options, and the place that the error must name; the engine has no tokenizer, and there is one prompt."""


def wrong_prompts_are_refused(engine: type[Engine], draw: Draw) -> None:
    """No prompt, empty, too long, of foreign tokens, text without a tokenizer: an InputError names which."""
    prompts, place = draw(st.sampled_from([*PROMPTS, *TEXTS]))
    tokenizer = letters(VOCABULARY) if (prompts, place) in TEXTS else None
    _refused(lambda: _small(engine, tokenizer).generate(prompts, Blocks()), place)


def wrong_options_are_refused(engine: type[Engine], draw: Draw) -> None:
    """An option that is unknown, out of bounds or of the wrong type: an InputError names it."""
    options, place = draw(st.sampled_from(OPTIONS))
    _refused(lambda: _small(engine).generate([[1]], Blocks(), **options), place)


def drafting_needs_a_draft_model(engine: type[Engine], draw: Draw) -> None:
    """Without a draft model an engine decodes; a policy that drafts is an InputError."""
    target = TableModel.from_logits(torch.zeros(VOCABULARY, dtype=torch.float64))
    alone = over(engine, target)
    rows = alone.generate([[1]], Blocks(caps=(0,)), max_new_tokens=4).tokens
    assert [len(tokens) for tokens in rows] == [4], f"4 tokens were asked for, and without a draft came {rows}"
    _refused(lambda: alone.generate([[1]], Blocks(), max_new_tokens=4), "draft")


def _small(engine: type[Engine], tokenizer: Any | None = None) -> Engine:
    model = TableModel.from_logits(torch.zeros(VOCABULARY, dtype=torch.float64), context=CONTEXT)
    return over(engine, model, model, tokenizer)


def _refused(generate: Callable[[], GenerationResult], place: str) -> None:
    error = raised(InputError, generate)
    assert place in str(error), f"the error does not name {place}: {error}"
