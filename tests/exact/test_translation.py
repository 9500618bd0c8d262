"""The promise holds where a draft has another tokenizer: exact distributions, with tokens that only one of both has."""

from typing import Any, Self

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from stopkit.testing import TableModel, assert_distribution_preserved
from stopkit_engines.eager import EagerEngine
from stopkit_engines.translation import common

POLICIES = ["static:length=3", "adaedl:max_draft=3,threshold=0.45", "drawn_probability", "heuristic:start=2"]
SAMPLING = [{"temperature": 1.0}, {"temperature": 0.6, "top_p": 0.8}, {"temperature": 0.0}]


def words(*texts: str, merges: list[tuple[str, str]]) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of these tokens alone."""
    tokenizer = Tokenizer(models.BPE(vocab={text: index for index, text in enumerate(texts)}, merges=merges))
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


TARGET, DRAFT = words("a", "b", "ab", merges=[("a", "b")]), words("bb", "b", "a", "ba", merges=[("b", "b"), ("b", "a")])
"""Of which "a" and "b" are common."""


class Translating(EagerEngine):
    """An engine whose draft has that other tokenizer."""

    @classmethod
    def from_models(cls, target: Any, draft: Any | None = None, *rest: Any, **fields: Any) -> Self:
        return super().from_models(target, draft, TARGET, draft_tokenizer=DRAFT, **fields)


@pytest.fixture(autouse=True)
def _sample_of_these_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "SAMPLE", "ba")


def table(seed: int, vocabulary: int) -> TableModel:
    return TableModel.random(vocabulary, torch.Generator().manual_seed(seed), scale=1.0)


@pytest.mark.parametrize("sampling", SAMPLING)
@pytest.mark.parametrize("policy", POLICIES)
def test_it_drafts_with_what_is_common(policy: str, sampling: dict[str, float]) -> None:
    distance = assert_distribution_preserved(
        policy, table(1, 3), table(2, 4), [0, 1, 2], 3, neighbours=[[2], [1, 1]], engine=Translating, **sampling
    )
    assert distance < 1e-12


def test_rows_that_are_refilled() -> None:
    assert_distribution_preserved(
        POLICIES[0], table(1, 3), table(2, 4), [0, 1], 2,
        neighbours=[[2], [1, 2, 1]], batch_size=2, rows=16, engine=Translating,
    )  # fmt: skip
