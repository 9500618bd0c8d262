"""Faults in details, each planted once without a test falling: now the test that is named for it falls."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from stopkit import block, controller
from stopkit.block import Block
from stopkit.policy import Verbs
from stopkit.sampling import Sampling
from stopkit.signals import Signals
from stopkit.state import State
from stopkit_engines.batch.decoding import BatchDecoding
from stopkit_engines.batch.draft_source import ModelDraft
from stopkit_engines.eager import EagerEngine
from tests.engines import test_details as details
from tests.engines import test_nothing_left as left
from tests.engines.models import noisy_copy, random_model

Mutant = Callable[[pytest.MonkeyPatch], None]
MUTANTS: list[tuple[Mutant, Callable[[], Any]]] = []


def caught_by(test: Callable[[], Any]) -> Callable[[Mutant], Mutant]:
    """Register a fault, and the test that must fall for it."""

    def register(mutant: Mutant) -> Mutant:
        MUTANTS.append((mutant, test))
        return mutant

    return register


def _engine() -> EagerEngine:
    target = random_model()
    return EagerEngine.from_models(target, noisy_copy(target))


@caught_by(lambda: left.test_every_processor_counts_in_order(_engine()))
def only_the_last_processor_counts(patch: pytest.MonkeyPatch) -> None:
    process = BatchDecoding._process

    def wrong(self: Any, logits: Tensor, first: Tensor) -> Tensor:
        for row in self._rows:
            row.processors = row.processors[-1:]
        return process(self, logits, first)

    patch.setattr(BatchDecoding, "_process", wrong)


@caught_by(details.test_the_draft_is_processed_on_the_whole_prefix)
def the_drafts_processors_see_one_token_less(patch: pytest.MonkeyPatch) -> None:
    process = BatchDecoding._process

    def wrong(self: Any, logits: Tensor, first: Tensor) -> Tensor:
        return process(self, logits, first - 1 if logits.shape[1] == 1 else first)

    patch.setattr(BatchDecoding, "_process", wrong)


@caught_by(lambda: left.test_the_largest_min_p_keeps_the_most_probable_tokens(1.0))
def min_p_keeps_only_what_is_above_it(patch: pytest.MonkeyPatch) -> None:
    def wrong(self: Sampling, p: Tensor) -> Tensor:
        p = p.where(p > (self.min_p or 0) * p.amax(-1, keepdim=True), 0.0)
        return p / p.sum(-1, keepdim=True)

    patch.setattr(Sampling, "_truncate", wrong)


@caught_by(left.test_a_tie_at_the_border_of_top_p_keeps_no_more_than_it_needs)
def top_p_keeps_one_more_at_its_border(patch: pytest.MonkeyPatch) -> None:
    truncate = Sampling._truncate

    def wrong(self: Sampling, p: Tensor) -> Tensor:
        return truncate(self.model_copy(update={"top_p": (self.top_p or 1) + 1e-9}), p)

    patch.setattr(Sampling, "_truncate", wrong)


@caught_by(details.test_rows_that_do_not_take_part_keep_their_state)
def every_row_takes_over_the_new_state(patch: pytest.MonkeyPatch) -> None:
    for module in (block, controller):
        patch.setattr(module, "kept", lambda new, old, rows: new.instead_of(old))


@caught_by(details.test_rows_that_do_not_take_part_keep_their_state)
def unusable_rows_take_over_the_new_state(patch: pytest.MonkeyPatch) -> None:
    def wrong(verbs: Verbs, state: State, drafting: Block, signals: Signals, usable: Tensor) -> tuple[Block, State]:
        decided, state = block.admitted(verbs, state, drafting, signals)
        return decided._replace(live=decided.live & usable), state

    patch.setattr(controller, "admitted", wrong)


@caught_by(details.test_what_a_policy_writes_into_reaches_nothing)
def policies_get_the_count_itself(patch: pytest.MonkeyPatch) -> None:
    clone = Tensor.clone

    def wrong(self: Tensor, *args: Any, **options: Any) -> Tensor:
        return self if self.dtype == torch.long and self.shape == (2,) else clone(self, *args, **options)

    patch.setattr(Tensor, "clone", wrong)


@caught_by(details.test_as_much_is_drafted_as_can_be_used)
def one_token_fewer_is_drafted(patch: pytest.MonkeyPatch) -> None:
    limit = BatchDecoding._limit
    patch.setattr(BatchDecoding, "_limit", lambda self, row: max(0, limit(self, row) - 1))


@caught_by(details.test_reading_a_prompt_is_no_draft_step)
def reading_a_prompt_is_a_draft_step(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ModelDraft, "steady", property(lambda self: True))


@caught_by(details.test_a_draft_is_asked_up_to_its_own_context_and_no_further)
def the_drafts_context_is_one_too_long(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ModelDraft, "context", property(lambda self: self.runner.context + 1))


@pytest.mark.parametrize(("mutant", "test"), MUTANTS, ids=[mutant.__name__ for mutant, _ in MUTANTS])
def test_mutant_is_caught(mutant: Mutant, test: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    test()
    mutant(monkeypatch)
    with pytest.raises((AssertionError, IndexError)):
        test()
