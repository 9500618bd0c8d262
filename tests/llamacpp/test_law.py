"""At temperature 1 what comes out is distributed as the target says: every choice enumerated, in llama.cpp itself."""

from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from stopkit.testing import assert_distribution_preserved
from stopkit.testing.for_engines.agreement import greedy_tokens_are_those_of_transformers
from stopkit_engines.llamacpp.engine import LlamaCppEngine
from stopkit_engines.llamacpp.model import GgufModel, load
from tests.llamacpp import models
from tests.llamacpp.conftest import PLAIN

pytestmark = pytest.mark.llamacpp

ROUNDING = 1e-5
"""llama.cpp and transformers add float32 numbers in other orders."""


class OfTransformers(LlamaCppEngine):
    """The engine over Llamas of transformers, which are written as GGUF and loaded once."""

    known: ClassVar[dict[int, GgufModel]] = {}
    folder: ClassVar[Path]

    @classmethod
    def from_models(cls, *given: Any, **fields: Any) -> Self:
        made = [None if model is None else cls._loaded(model) for model in given]
        return super().from_models(*made, **PLAIN | fields)

    @classmethod
    def _loaded(cls, model: Any) -> GgufModel:
        if id(model) not in cls.known:
            cls.known[id(model)] = load(models.written(model, cls.folder / f"{id(model)}.gguf"), 0, "model")
        return cls.known[id(model)]


@pytest.fixture(scope="module")
def engine(folder: Path) -> type[OfTransformers]:
    OfTransformers.folder = folder
    return OfTransformers


@pytest.fixture(scope="module")
def tiny() -> tuple[Any, Any]:
    """Three tokens, so that every continuation can be followed."""
    config = LlamaConfig(
        vocab_size=3,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=32,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    with torch.random.fork_rng(devices=()), torch.no_grad():
        torch.manual_seed(0)
        target, draft = (LlamaForCausalLM(config).eval() for _ in range(2))
        for each in (target, draft):
            each.lm_head.weight.mul_(12)
    return target, draft


@pytest.mark.parametrize(
    ("policy", "sampling"),
    [
        ({"kind": "static", "length": 2}, {}),
        ({"kind": "adaedl", "threshold": 0.2}, {"temperature": 0.7}),
        ({"kind": "goodput"}, {"top_k": 2}),
    ],
    ids=str,
)
@pytest.mark.parametrize("neighbours", [[], [[2, 2, 1]]], ids=["alone", "beside another"])
def test_the_output_distribution_is_the_targets(
    engine: type[OfTransformers],
    tiny: tuple[Any, Any],
    policy: dict[str, Any],
    sampling: dict[str, Any],
    neighbours: list[list[int]],
) -> None:
    assert_distribution_preserved(
        policy, *tiny, [0, 1], 3, engine=engine, neighbours=neighbours, tolerance=ROUNDING, rows=16, **sampling
    )


def test_the_tokens_are_those_of_transformers(engine: type[OfTransformers]) -> None:
    from hypothesis import given, settings
    from hypothesis import strategies as st

    @settings(max_examples=10, deadline=None, database=None, derandomize=True)
    @given(st.data())
    def check(data: Any) -> None:
        greedy_tokens_are_those_of_transformers(engine, data.draw)

    check()


def test_hidden_states_are_those_of_transformers(engine: type[OfTransformers], tiny: tuple[Any, Any]) -> None:
    target, _ = tiny
    runner = engine.from_models(target, target)._runner("draft", OfTransformers._loaded(target), 2, 16)
    tokens = torch.tensor([[0, 1, 2, 2], [1, 1, 0, 0]])
    given = runner.forward(tokens, torch.tensor([4, 3]), keep=2, hidden=True)
    for row, end in enumerate((4, 3)):
        wanted = target(input_ids=tokens[row : row + 1, :end], output_hidden_states=True)
        assert given.hidden_state is not None
        torch.testing.assert_close(given.hidden_state[row], wanted.hidden_states[-1][0, -2:], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(given.logits[row], wanted.logits[0, -2:], atol=1e-4, rtol=1e-4)
