"""What drafts where it is no model: prompt lookup, and the block that names it."""

from typing import Any

import pytest
import torch

from stopkit import Engine, InputError, StoppingPolicy, load_engine
from stopkit.kinds import as_block
from stopkit.plugins import registry
from stopkit.testing import TableModel
from stopkit_engines.batch.prompt_lookup import LookupDraft, PromptLookup
from tests.engines.conftest import PROMPTS


class Deep(StoppingPolicy):
    """Reads hidden states."""

    kind = "deep"
    signals = frozenset({"hidden_state"})


OPTIONS: dict[str, Any] = {"temperature": 0, "max_new_tokens": 30}


def offers(rows: list[list[int]], drafted: list[int] | None = None, **block: int) -> list[int | None]:
    """What is proposed after each of `rows`; None where nothing is."""
    length = torch.tensor([len(row) for row in rows])
    block_so_far = torch.tensor(drafted or [0] * len(rows))
    tokens = torch.tensor([row + [7] * (12 - len(row)) for row in rows])
    source = LookupDraft(PromptLookup(**block), 10)
    live = torch.ones(len(rows), dtype=torch.bool)
    offer = source.propose(tokens, length - block_so_far, block_so_far, live, False)
    assert (offer.logits.exp().sum(-1) == 1).all()
    said = zip(offer.logits.argmax(-1).tolist(), offer.offered.tolist(), strict=True)
    return [token if offered else None for token, offered in said]


def test_what_followed_the_last_tokens_is_proposed() -> None:
    assert offers([[1, 2, 3, 9, 1, 2, 3]]) == [9]
    assert offers([[1, 2, 3]]) == [None]
    assert offers([[5]]) == [None]
    assert offers([[5, 5]]) == [5]


def test_a_longer_match_counts_more_and_of_equals_the_last() -> None:
    rows = [[1, 2, 8, 3, 2, 9, 1, 2]]
    assert offers(rows, longest=3) == [8]
    assert offers(rows, longest=1) == [9]


def test_rows_look_in_their_own_text_only() -> None:
    assert offers([[1, 2, 1], [7, 7, 1], [3, 4, 5, 3, 4]]) == [2, None, 5]


def test_most_tokens_a_block() -> None:
    rows = [[1, 2, 3, 1, 2], [1, 2, 3, 1, 2]]
    assert offers(rows, drafted=[1, 2], most=2) == [3, None]


@pytest.fixture
def lookup(target: Any) -> Engine:
    return registry().engine("eager").from_models(target, {"kind": "prompt_lookup", "longest": 2})


def test_nothing_to_propose_is_no_defect_and_no_forward(lookup: Engine, engine: Engine) -> None:
    result = lookup.generate(PROMPTS, "static:length=4", **OPTIONS)
    assert result.tokens == engine.generate(PROMPTS, "autoregressive", **OPTIONS).tokens
    assert result.stats.drafted > 0
    assert any(each.stats.drafted < 4 * (each.stats.rounds - 5) for each in result.continuations), "all was found"
    assert result.stats.nonfinite_drafts == 0
    assert result.stats.draft_forwards == 0


def test_costs_learn_that_a_lookup_is_nearly_free(lookup: Engine, engine: Engine) -> None:
    ratios = []
    for each in (lookup, engine):
        each.generate([[1, 2, 3, 1, 2, 3, 1, 2]], "static:length=3", **OPTIONS)
        costs = each._costs.costs(torch.device("cpu"))  # type: ignore[attr-defined]
        ratios.append(float(costs.draft_step / costs.verify))
    assert ratios[0] < ratios[1]


def test_a_text_that_repeats_is_drafted_well() -> None:
    cycle = TableModel.from_logits(50.0 * torch.eye(4)[[0, 1, 2, 3, 0]])
    engine = registry().engine("eager").from_models(cycle, PromptLookup())
    stats = engine.generate([[0, 1, 2, 3, 0, 1]], "static:length=5", temperature=0, max_new_tokens=12).stats
    assert stats.acceptance_rate == 1
    assert stats.rounds == 2


def test_processors_that_forbid_what_is_proposed_end_the_block(lookup: Engine) -> None:
    def no_ones(prefix: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores.index_fill(1, torch.tensor([1]), -torch.inf)

    result = lookup.generate([[1, 2, 1, 2, 1, 2]], "static:length=4", logits_processor=[no_ones], **OPTIONS)
    assert 1 not in result.tokens[0]
    assert result.stats.nonfinite_drafts == 0


def test_a_policy_that_reads_hidden_states_is_told_that_there_are_none(lookup: Engine) -> None:
    with pytest.raises(InputError, match="prompt_lookup has none; let a model draft"):
        lookup.generate(PROMPTS, Deep())


def test_the_block_goes_through_a_config() -> None:
    engine = load_engine({"kind": "eager", "draft": {"kind": "prompt_lookup", "longest": 2}})
    assert engine.draft == PromptLookup(longest=2)  # type: ignore[attr-defined]
    assert as_block(load_engine(as_block(engine))) == as_block(engine)
    assert as_block(engine)["draft"] == {"kind": "prompt_lookup", "longest": 2, "most": 10}


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"kind": "promt_lookup"}, r"engine\.draft\.kind: no draft is called 'promt_lookup'\. Did you mean"),
        ({"longest": 2}, r"engine\.draft\.kind: must name"),
        ({"kind": "prompt_lookup", "longst": 2}, r"engine\.draft\.longst: unknown field\. Did you mean 'longest'"),
        ({"kind": "prompt_lookup", "longest": 0}, r"engine\.draft\.longest: .* got 0"),
        (3, r"engine\.draft: must be a table of fields; got 3"),
    ],
)
def test_a_wrong_block_is_refused(block: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_engine({"kind": "eager", "draft": block})


def test_a_recording_needs_a_model_that_drafts(lookup: Engine) -> None:
    with pytest.raises(InputError, match=r"engine\.draft: is unset, or no model"):
        lookup.identity()  # type: ignore[attr-defined]
