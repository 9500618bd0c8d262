"""The promise holds, too, where rows are refilled and where no model drafts."""

import pytest
import torch
from transformers import cache_utils
from transformers.cache_utils import DynamicLayer

from stopkit.testing import TableModel, assert_distribution_preserved
from stopkit_engines.batch.prompt_lookup import PromptLookup
from stopkit_engines.hf import trial
from stopkit_engines.hf.single_row import SingleRow

POLICIES = ["static:length=3", "adaedl:max_draft=3,threshold=0.45", "drawn_probability", "heuristic:start=2"]
SAMPLING = [{"temperature": 1.0}, {"temperature": 0.6, "top_p": 0.8}, {"temperature": 0.0}]


def table(seed: int, vocabulary: int = 3) -> TableModel:
    return TableModel.random(vocabulary, torch.Generator().manual_seed(seed), scale=1.0)


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("policy", POLICIES)
def test_rows_that_are_refilled(policy: str, batch_size: int) -> None:
    neighbours = [[2], [1, 1, 2]]
    assert_distribution_preserved(
        policy, table(5, 2), table(6, 2), [0, 1], 3, neighbours=[[1], [1, 1, 0]], batch_size=batch_size
    )
    assert_distribution_preserved(
        policy, table(7), table(8), [0, 1], 2, neighbours=neighbours, batch_size=batch_size, rows=16
    )


@pytest.mark.parametrize("sampling", SAMPLING)
@pytest.mark.parametrize("policy", POLICIES)
def test_a_lookup_drafts(policy: str, sampling: dict[str, float]) -> None:
    for seed, longest in ((1, 1), (2, 3)):
        draft = PromptLookup(longest=longest, most=2)
        distance = assert_distribution_preserved(
            policy, table(seed), draft, [0, 1, 2, 0, 1], 3, neighbours=[[1], [2, 2]], **sampling
        )
        assert distance < 1e-12


class Remembering(DynamicLayer):  # type: ignore[misc]
    """Keys that cannot be cut, as a recurrent state cannot: a runner has to keep them as they were before a block."""


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("way", trial.WAYS[1:], ids=lambda way: way.name)
@pytest.mark.parametrize("policy", POLICIES)
def test_one_row_with_the_models_own_cache(
    policy: str, way: trial.Way, recurrent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "_known", {})
    monkeypatch.setattr(trial, "_tried", lambda model, where, plan: way)
    if recurrent:
        monkeypatch.setitem(cache_utils.DYNAMIC_LAYER_TYPE_MAPPING, "full_attention", Remembering)
    distance = assert_distribution_preserved(policy, table(7), table(8), [0, 1], 3, neighbours=[[2]])
    assert distance < 1e-12


@pytest.mark.parametrize("way", trial.WAYS[1:], ids=lambda way: way.name)
def test_a_state_that_is_not_rolled_back_is_caught(way: trial.Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_known", {})
    monkeypatch.setattr(trial, "_tried", lambda model, where, plan: way)
    monkeypatch.setitem(cache_utils.DYNAMIC_LAYER_TYPE_MAPPING, "full_attention", Remembering)

    def wrong(self: SingleRow, agreed: torch.Tensor) -> None:
        self._agreed = int(torch.minimum(self.filled, agreed))
        self.filled = torch.full_like(self.filled, self._agreed)

    monkeypatch.setattr(SingleRow, "rewind", wrong)
    with pytest.raises(AssertionError):
        assert_distribution_preserved("static:length=3", table(7), table(8), [0, 1], 3)
