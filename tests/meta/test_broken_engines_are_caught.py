"""The tester is tested: for every check of the conformance kit there is a broken engine that it catches.

Each mutant replaces one function of the eager engine by a wrong one and names the check that must fail.
"""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import stopkit_engines.batch.decoding as decoding
import stopkit_engines.batch.prompts as prompts
import stopkit_engines.batch.sequences as sequences
from stopkit import Engine, GenerationError, StoppingPolicy, coupling, signals
from stopkit.costs import CostModel
from stopkit.decoding import Commitment
from stopkit.generation import GenerationOptions, Origin, Piece
from stopkit.random import SeededRandomSource, sequence_seeds
from stopkit.sampling import Sampling, softmax
from stopkit.testing.checks import Check, Verdict
from stopkit.testing.for_engines import ENGINE_CHECKS
from stopkit_engines.batch import steps
from stopkit_engines.batch.decoding import BatchDecoding
from stopkit_engines.batch.draft_source import ModelDraft
from stopkit_engines.batch.text import TextStream
from stopkit_engines.eager import EagerEngine
from stopkit_engines.hf.cached_model import CachedModel

Patch = Callable[[pytest.MonkeyPatch], type[Engine] | None]
MUTANTS: dict[str, tuple[str, Patch]] = {}
CHECKS: dict[str, Check] = {check.name: check for check in ENGINE_CHECKS}


def caught_by(check: str) -> Callable[[Patch], Patch]:
    """Register a way to break the engine, in place or by a class of its own, and the check that must catch it."""

    def register(patch: Patch) -> Patch:
        MUTANTS[patch.__name__] = (check, patch)
        return patch

    return register


@caught_by("greedy_tokens_are_the_targets_own")
def greedy_is_only_almost_greedy(patch: pytest.MonkeyPatch) -> None:
    probabilities = Sampling.probabilities
    warm = Sampling(temperature=0.3)
    patch.setattr(
        Sampling, "probabilities", lambda self, logits: probabilities(self if self.temperature else warm, logits)
    )


@caught_by("greedy_tokens_are_those_of_transformers")
def positions_are_off_by_one(patch: pytest.MonkeyPatch) -> None:
    forward = CachedModel.forward

    def wrong(self: Any, *args: Any, **options: Any) -> Any:
        with pytest.MonkeyPatch.context() as inner:
            called = self.model.forward
            inner.setattr(
                self.model, "forward", lambda position_ids, **rest: called(position_ids=position_ids // 2, **rest)
            )
            return forward(self, *args, **options)

    patch.setattr(CachedModel, "forward", wrong)


@caught_by("the_output_distribution_is_the_targets")
def residual_missing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(coupling, "next_distribution", lambda p, q, accepted: p[torch.arange(len(p)), accepted])


@caught_by("the_output_distribution_is_the_targets")
def draws_by_itself_in_secret(patch: pytest.MonkeyPatch) -> None:
    start = EagerEngine.start

    def wrong(self: Any, request: Any) -> Any:
        made = start(self, request)
        made._steps._coupling = coupling.Maximal(SeededRandomSource(range(made.sequence_count), made.device))
        return made

    patch.setattr(EagerEngine, "start", wrong)


@caught_by("samples_fit_the_targets_distribution")
def draws_by_itself_and_residual_missing(patch: pytest.MonkeyPatch) -> type[Engine]:
    class OwnRandomness(EagerEngine):
        """Says that it takes no source of randomness."""

        enumerable: ClassVar[bool] = False

    residual_missing(patch)
    return OwnRandomness


@caught_by("tokens_that_truncation_removes_are_never_generated")
def top_p_ignored(patch: pytest.MonkeyPatch) -> None:
    truncate = Sampling._truncate
    patch.setattr(Sampling, "_truncate", lambda self, p: truncate(self.model_copy(update={"top_p": None}), p))


@caught_by("logits_processors_are_applied")
def logits_processors_are_shown_the_prefix_of_the_round(patch: pytest.MonkeyPatch) -> None:
    process = BatchDecoding._process

    def wrong(self: Any, first: Tensor, logits: Tensor) -> Tensor:
        return torch.cat([process(self, self._length, column) for column in torch.split(logits, 1, 1)], 1)

    patch.setattr(BatchDecoding, "_process", wrong)


@caught_by("rows_do_not_depend_on_their_neighbours")
def a_draw_of_one_row_moves_all_generators(patch: pytest.MonkeyPatch) -> None:
    uniform = SeededRandomSource.uniform
    patch.setattr(SeededRandomSource, "uniform", lambda self, rows: uniform(self, rows.any().expand_as(rows)))


@caught_by("rows_take_the_next_prompt")
def the_next_prompt_draws_on_with_the_seed_of_the_last(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SeededRandomSource, "seat", lambda self, row, sequence: None)


@caught_by("rows_take_the_next_prompt")
def the_next_prompt_finds_the_cache_of_the_last(patch: pytest.MonkeyPatch) -> None:
    seat = BatchDecoding._seat

    def wrong(self: Any, row: int) -> None:
        filled = self._target.filled.clone()
        seat(self, row)
        self._target.filled = torch.minimum(filled, torch.tensor(len(self._sequences[self._seated[row]].prompt) - 1))

    patch.setattr(BatchDecoding, "_seat", wrong)


@caught_by("equal_seeds_repeat_a_run")
def seeds_from_elsewhere(patch: pytest.MonkeyPatch) -> None:
    runs = itertools.count()
    patch.setattr(decoding, "sequence_seeds", lambda seed, count: sequence_seeds(next(runs), count))


@caught_by("other_seeds_give_other_samples")
def seeds_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decoding, "sequence_seeds", lambda seed, count: sequence_seeds(0, count))


@caught_by("other_seeds_give_other_samples")
def one_seed_for_all_sequences(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decoding, "sequence_seeds", lambda seed, count: sequence_seeds(seed, 1) * count)


@caught_by("sequences_end_where_they_must")
def end_of_sequence_only_seen_at_the_end_of_a_round(patch: pytest.MonkeyPatch) -> None:
    emit = sequences.BatchSequence.emit

    def wrong(self: Any, accepted: list[int], own: int, origin: Origin, ends: Any) -> Piece:
        return emit(self, accepted, own, origin, ends if own in ends else ())

    patch.setattr(sequences.BatchSequence, "emit", wrong)


@caught_by("sequences_end_where_they_must")
def a_full_context_is_called_length(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        sequences.BatchSequence, "cramped", property(lambda self: False, lambda self, value: None), raising=False
    )


@caught_by("stop_strings_end_the_text")
def stop_strings_across_tokens_missed(patch: pytest.MonkeyPatch) -> None:
    read_on = TextStream._read_on

    def wrong(self: Any) -> None:
        self._taken = len(self.text)
        read_on(self)

    patch.setattr(TextStream, "_read_on", wrong)


@caught_by("what_is_streamed_is_what_is_returned")
def only_accepted_tokens_are_streamed(patch: pytest.MonkeyPatch) -> None:
    emit = sequences.BatchSequence.emit

    def wrong(self: Any, *args: Any) -> Piece:
        piece = emit(self, *args)
        return piece._replace(tokens=piece.tokens[:-1])

    patch.setattr(sequences.BatchSequence, "emit", wrong)


@caught_by("origins_tell_drafted_tokens_from_the_targets_own")
def every_token_is_said_to_be_accepted(patch: pytest.MonkeyPatch) -> None:
    emit = sequences.BatchSequence.emit
    patch.setattr(
        sequences.BatchSequence,
        "emit",
        lambda self, accepted, own, origin, ends: emit(self, accepted, own, Origin.ACCEPTED, ends),
    )


@caught_by("blocks_are_as_long_as_the_policy_decides")
def cap_ignored(patch: pytest.MonkeyPatch) -> None:
    class Eager(StoppingPolicy):
        """Drafts one token more than the policy that it hides."""

        kind: ClassVar[str] = "one_more"
        inner: Any

        init = property(lambda self: self.inner.init)
        admit = property(lambda self: self.inner.admit)
        extend = property(lambda self: self.inner.extend)
        learn = property(lambda self: self.inner.learn)

        @property
        def required_signals(self) -> frozenset[str]:
            signals: frozenset[str] = self.inner.required_signals
            return signals

        def plan(self, state: Any, context: Any) -> Any:
            cap, state = self.inner.plan(state, context)
            return cap + 1, state

    generate = EagerEngine.generate
    patch.setattr(
        EagerEngine,
        "generate",
        lambda self, prompts, policy, **options: generate(self, prompts, Eager(inner=policy), **options),
    )


@caught_by("blocks_are_as_long_as_the_policy_decides")
def refused_rows_are_verified_beside_the_others(patch: pytest.MonkeyPatch) -> None:
    verify = BatchDecoding.verify

    def wrong(self: Any, drafted: Tensor) -> Any:
        return verify(self, torch.full_like(drafted, len(self._block)).where(self._active, 0))

    patch.setattr(BatchDecoding, "verify", wrong)


@caught_by("rows_do_not_depend_on_their_neighbours")
def refused_rows_draw_beside_the_others(patch: pytest.MonkeyPatch) -> None:
    commit = BatchDecoding.commit

    def wrong(self: Any, live: Tensor, drafted: Tensor) -> Commitment:
        return commit(self, self._active, drafted)

    patch.setattr(BatchDecoding, "commit", wrong)


@caught_by("signals_describe_the_drafts_distribution")
def signals_from_before_truncation(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(GenerationOptions, "shown", lambda self, logits, probabilities: softmax(logits))


@caught_by("the_context_describes_the_text")
def the_length_leaves_out_the_last_token(patch: pytest.MonkeyPatch) -> None:
    context = BatchDecoding.context
    patch.setattr(BatchDecoding, "context", lambda self: replace(context(self), length=self._length - 1))


@caught_by("the_context_describes_the_text")
def the_entropy_is_that_of_the_next_token(patch: pytest.MonkeyPatch) -> None:
    entropy = BatchDecoding._entropy_behind
    patch.setattr(
        BatchDecoding,
        "_entropy_behind",
        lambda self, logits, drafted, accepted: entropy(self, logits, drafted, drafted),
    )


@caught_by("the_context_describes_the_text")
def the_entropy_is_from_before_truncation(patch: pytest.MonkeyPatch) -> None:
    def wrong(self: Any, logits: Tensor, drafted: Tensor, accepted: Tensor) -> Tensor:
        return signals.entropy(softmax(logits[torch.arange(len(drafted)), accepted - drafted - 1]))

    patch.setattr(BatchDecoding, "_entropy_behind", wrong)


@caught_by("the_context_describes_the_text")
def the_entropy_stays_what_it_was(patch: pytest.MonkeyPatch) -> None:
    begin = BatchDecoding._begin_round

    def wrong(self: Any) -> None:
        before = getattr(self, "_first_entropy", self._entropy)
        self._entropy = self._first_entropy = before.where(before == before, self._entropy)
        begin(self)

    patch.setattr(BatchDecoding, "_begin_round", wrong)


@caught_by("fixed_costs_are_told_and_charged")
def seconds_are_measured_all_the_same(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(CostModel, "round_seconds", lambda self, steps, drafted, measured: measured)


@caught_by("a_generation_goes_on_from_a_state")
def state_ignored(patch: pytest.MonkeyPatch) -> None:
    generate = EagerEngine.generate
    patch.setattr(
        EagerEngine,
        "generate",
        lambda self, prompts, policy, state=None, **options: generate(self, prompts, policy, **options),
    )


@caught_by("statistics_add_up")
def bonus_token_dropped(patch: pytest.MonkeyPatch) -> None:
    emit = sequences.BatchSequence.emit

    def wrong(self: Any, accepted: list[int], own: int, origin: Origin, ends: Any) -> Piece:
        if accepted and origin == Origin.BONUS:
            *accepted, own = accepted
        return emit(self, accepted, own, origin, ends)

    patch.setattr(sequences.BatchSequence, "emit", wrong)


@caught_by("statistics_add_up")
def total_off_by_one(patch: pytest.MonkeyPatch) -> None:
    result = BatchDecoding.result

    def wrong(self: Any, controller: Any) -> Any:
        made = result(self, controller)
        made.stats.drafted += 1
        return made

    patch.setattr(BatchDecoding, "result", wrong)


@caught_by("statistics_count_what_the_policy_saw")
def the_last_round_is_not_counted(patch: pytest.MonkeyPatch) -> None:
    result = BatchDecoding.result

    def wrong(self: Any, controller: Any) -> Any:
        made = result(self, controller)
        for stats in (made.stats, *(continuation.stats for continuation in made.continuations)):
            stats.offered_by_position = stats.offered_by_position[:-1]
            stats.accepted_by_position = stats.accepted_by_position[:-1]
            stats.drafted, stats.accepted = sum(stats.offered_by_position), sum(stats.accepted_by_position)
        return made

    patch.setattr(BatchDecoding, "result", wrong)


@caught_by("no_draft_forward_is_run_for_nothing")
def the_draft_follows_along(patch: pytest.MonkeyPatch) -> None:
    verify = BatchDecoding.verify

    def wrong(self: Any, drafted: Tensor) -> Any:
        if not self._block and isinstance(self._draft, ModelDraft):
            self._draft.propose(self._tokens, self._length, drafted, self._active, False)
        return verify(self, drafted)

    patch.setattr(BatchDecoding, "verify", wrong)


@caught_by("a_failing_policy_loses_nothing")
def partial_results_are_lost(patch: pytest.MonkeyPatch) -> None:
    generate = EagerEngine.generate

    def wrong(self: Any, *args: Any, **options: Any) -> Any:
        try:
            return generate(self, *args, **options)
        except GenerationError as error:
            raise GenerationError(str(error)) from error

    patch.setattr(EagerEngine, "generate", wrong)


@caught_by("an_interrupt_loses_nothing")
def an_interrupt_loses_the_round(patch: pytest.MonkeyPatch) -> None:
    emit = sequences.BatchSequence.emit

    def wrong(self: Any, *args: Any) -> Piece:
        kept, self.continuation = self.continuation, sequences.Continuation()
        piece = emit(self, *args)
        self.continuation = kept
        return piece

    patch.setattr(sequences.BatchSequence, "emit", wrong)


@caught_by("a_draft_gone_bad_changes_nothing")
def a_draft_gone_bad_is_drawn_from(patch: pytest.MonkeyPatch) -> None:
    propose = BatchDecoding.propose
    patch.setattr(
        BatchDecoding, "propose", lambda self, live, drafted: propose(self, live, drafted)._replace(usable=live)
    )


@caught_by("a_target_gone_bad_is_an_error")
def a_target_gone_bad_is_not_noticed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(steps, "finite", lambda logits: torch.ones(logits.shape[:-1], dtype=torch.bool))


@caught_by("wrong_prompts_are_refused")
def an_empty_prompt_is_continued(patch: pytest.MonkeyPatch) -> None:
    encode = prompts.encode
    patch.setattr(prompts, "encode", lambda prompt, *rest: encode(prompt or [0], *rest))


@caught_by("wrong_prompts_are_refused")
def the_prompt_is_not_named(patch: pytest.MonkeyPatch) -> None:
    encode = prompts.encode
    patch.setattr(prompts, "encode", lambda prompt, index, *rest: encode(prompt, 0, *rest))


@caught_by("wrong_options_are_refused")
def unknown_options_are_ignored(patch: pytest.MonkeyPatch) -> None:
    generate = EagerEngine.generate

    def wrong(self: Any, prompts: Any, policy: Any, **options: Any) -> Any:
        options.pop("temprature", None)
        return generate(self, prompts, policy, **options)

    patch.setattr(EagerEngine, "generate", wrong)


@caught_by("drafting_needs_a_draft_model")
def the_target_drafts_where_there_is_no_draft(patch: pytest.MonkeyPatch) -> None:
    made = EagerEngine.from_models.__func__
    patch.setattr(
        EagerEngine,
        "from_models",
        classmethod(
            lambda cls, target, draft=None, *rest, **fields: made(cls, target, draft or target, *rest, **fields)
        ),
    )


def test_every_check_has_a_mutant() -> None:
    assert {check for check, _ in MUTANTS.values()} == set(CHECKS)


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check, patch = MUTANTS[name]
    unbroken = CHECKS[check].run(EagerEngine, examples=5)
    assert unbroken.verdict == Verdict.PASSED, str(unbroken)
    broken = CHECKS[check].run(patch(monkeypatch) or EagerEngine)
    assert broken.verdict == Verdict.FAILED
    assert broken.reason
