"""At temperature 0 the engine says what llama.cpp says by itself, and drafts and accepts what it must."""

from typing import Any

import pytest

from stopkit_engines.llamacpp import context
from stopkit_engines.llamacpp.model import GgufModel
from tests.llamacpp import alone
from tests.llamacpp.conftest import Make

pytestmark = pytest.mark.llamacpp

KINDS = ["llama", "hybrid", "windowed"]
POLICIES = [{"kind": "static", "length": 0}, {"kind": "static", "length": 3}, {"kind": "adaedl"}, {"kind": "goodput"}]
PROMPTS = [[1, 2, 3], [4, 5], [7, 7, 8, 9, 10, 11, 12]]
COUNT = 30


@pytest.fixture(scope="module")
def expected(loaded: dict[str, tuple[GgufModel, GgufModel]]) -> dict[str, list[list[int]]]:
    return {kind: [alone.greedy(loaded[kind][0], prompt, COUNT) for prompt in PROMPTS] for kind in KINDS}


@pytest.mark.parametrize("fields", [{}, {"swa_full": False, "states": 0}, {"states": 2}], ids=str)
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy["kind"] + str(policy.get("length", "")))
@pytest.mark.parametrize("kind", KINDS)
def test_is_llama_cpps_own(
    engine: Make, expected: dict[str, list[list[int]]], kind: str, policy: dict[str, Any], fields: dict[str, Any]
) -> None:
    for batch_size in (1, 2, 3):
        result = engine(kind, **fields).generate(
            PROMPTS, policy, temperature=0.0, max_new_tokens=COUNT, batch_size=batch_size
        )
        assert result.tokens == expected[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_counts_are_those_of_sequences_decoded_anew(
    engine: Make, loaded: dict[str, tuple[GgufModel, GgufModel]], kind: str
) -> None:
    result = engine(kind).generate(
        PROMPTS, {"kind": "static", "length": 3}, temperature=0.0, max_new_tokens=COUNT, batch_size=2
    )
    for prompt, continuation in zip(PROMPTS, result.continuations, strict=True):
        wanted = alone.counts(*loaded[kind], prompt, COUNT, 3)
        assert {name: getattr(continuation.stats, name) for name in wanted} == wanted
    assert 0.05 < result.stats.acceptance_rate < 0.95  # so that both accepting and rolling back were tried


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_accepts_all_that_it_drafts_itself(engine: Make, kind: str) -> None:
    own = engine(kind, itself=True)
    stats = own.generate(PROMPTS, {"kind": "static", "length": 4}, temperature=0.0, max_new_tokens=COUNT).stats
    assert stats.acceptance_rate == 1.0


@pytest.mark.parametrize(
    ("kind", "fields", "way"),
    [
        ("llama", {}, {"target": "takes", "draft": "takes"}),
        ("windowed", {}, {"target": "takes", "draft": "takes"}),
        ("hybrid", {}, {"target": "takes", "draft": "reads"}),
        ("hybrid", {"states": 0}, {"target": "reads", "draft": "reads"}),
    ],
)
def test_the_trial_tells_how_tokens_are_taken_back(
    engine: Make, kind: str, fields: dict[str, Any], way: dict[str, str]
) -> None:
    tried = engine(kind, **fields).trial_of_models()
    assert {field: found.split()[0] for field, found in tried.items()} == way


def test_prompt_lookup_drafts_without_a_model(loaded: dict[str, tuple[GgufModel, GgufModel]], engine: Make) -> None:
    target, _ = loaded["llama"]
    lookup = type(engine("llama")).from_models(target, {"kind": "prompt_lookup"}, cache="float32", threads=1)
    result = lookup.generate([[1, 2, 3] * 4], {"kind": "static", "length": 3}, temperature=0.0, max_new_tokens=COUNT)
    assert result.tokens == [alone.greedy(target, [1, 2, 3] * 4, COUNT)]
    assert result.stats.drafted > 0
    assert result.stats.draft_forwards == 0


def test_states_of_earlier_batches_are_not_gone_back_to(
    engine: Make, loaded: dict[str, tuple[GgufModel, GgufModel]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """llama.cpp says that it took back tokens of several batches, and a draft goes on from a state of another place."""

    def trusting(memory: Any, row: int, keep: int) -> bool:
        return bool(memory._llama.llama_memory_seq_rm(memory._memory, row, keep, -1))

    monkeypatch.setattr(context.Context, "forget", trusting)
    blocks = {"kind": "static", "length": 3}
    stats = engine("hybrid").generate(PROMPTS[:1], blocks, temperature=0.0, max_new_tokens=COUNT).stats
    wanted = alone.counts(*loaded["hybrid"], PROMPTS[0], COUNT, 3)
    assert stats.accepted < wanted["accepted"]
