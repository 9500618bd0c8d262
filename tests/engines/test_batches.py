"""Ragged batches: a sequence's output depends on its prompt and seed, not on its neighbours."""

from typing import Any

import pytest
import torch

from stopkit import Engine
from stopkit.plugins import registry
from stopkit.testing import TableModel
from tests.engines.conftest import POLICIES, PROMPTS
from tests.exact.adversarial import Erratic

SEEDS = [11, 12, 13, 14]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_row_does_not_depend_on_its_neighbours(engine: Engine, policy: str) -> None:
    options: dict[str, Any] = {"temperature": 0.8, "top_p": 0.9, "max_new_tokens": 40}
    together = engine.generate(PROMPTS, policy, seeds=SEEDS, **options).tokens
    alone = [engine.generate(p, policy, seeds=[s], **options).tokens[0] for p, s in zip(PROMPTS, SEEDS, strict=True)]
    backwards = engine.generate(PROMPTS[::-1], policy, seeds=SEEDS[::-1], **options).tokens[::-1]
    assert together == alone == backwards


def test_seeds_repeat_a_run_and_differ_between_rows(engine: Engine) -> None:
    same_prompts = [PROMPTS[0]] * 3
    first = engine.generate(same_prompts, "adaedl", seed=1, max_new_tokens=20).tokens
    assert first == engine.generate(same_prompts, "adaedl", seed=1, max_new_tokens=20).tokens
    assert first != engine.generate(same_prompts, "adaedl", seed=2, max_new_tokens=20).tokens
    assert len({tuple(tokens) for tokens in first}) == 3


@pytest.mark.parametrize("seed", range(5))
def test_a_perfect_draft_is_always_accepted(seed: int) -> None:
    """The draft's cache is right whatever mixture of rollbacks, full blocks and rounds without a draft went before."""
    model = TableModel.random(5, torch.Generator().manual_seed(seed), context=200)
    engine = registry().engine("eager").from_models(model, model)
    prompts = [[1, 2, 3], [4], [0, 1]]
    stats = engine.generate(prompts, Erratic(seed=seed), seed=seed, max_new_tokens=60).stats
    assert stats.accepted == stats.drafted > 30
