"""What every engine must do, in the order in which it is checked."""

from stopkit.testing.checks import Check
from stopkit.testing.for_engines import (
    accounting,
    agreement,
    distribution,
    failures,
    inputs,
    obedience,
    output,
    rows,
)

ENGINE_CHECKS: tuple[Check, ...] = (
    Check(agreement.greedy_tokens_are_the_targets_own),
    Check(agreement.greedy_tokens_are_those_of_transformers, examples=10),
    Check(distribution.the_output_distribution_is_the_targets),
    Check(distribution.samples_fit_the_targets_distribution, examples=8),
    Check(distribution.tokens_that_truncation_removes_are_never_generated),
    Check(distribution.logits_processors_are_applied),
    Check(rows.rows_do_not_depend_on_their_neighbours),
    Check(rows.rows_take_the_next_prompt),
    Check(rows.equal_seeds_repeat_a_run),
    Check(rows.other_seeds_give_other_samples, examples=3),
    Check(output.sequences_end_where_they_must),
    Check(output.stop_strings_end_the_text),
    Check(output.what_is_streamed_is_what_is_returned),
    Check(output.origins_tell_drafted_tokens_from_the_targets_own),
    Check(obedience.blocks_are_as_long_as_the_policy_decides),
    Check(obedience.signals_describe_the_drafts_distribution),
    Check(obedience.fixed_costs_are_told_and_charged),
    Check(obedience.a_generation_goes_on_from_a_state),
    Check(accounting.statistics_add_up),
    Check(accounting.statistics_count_what_the_policy_saw),
    Check(accounting.no_draft_forward_is_run_for_nothing, examples=10),
    Check(failures.a_failing_policy_loses_nothing),
    Check(failures.an_interrupt_loses_nothing, examples=10),
    Check(failures.a_draft_gone_bad_changes_nothing, examples=10),
    Check(failures.a_target_gone_bad_is_an_error, examples=10),
    Check(inputs.wrong_prompts_are_refused),
    Check(inputs.wrong_options_are_refused),
    Check(inputs.drafting_needs_a_draft_model, examples=1),
)
