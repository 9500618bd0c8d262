"""What every policy must do, in the order in which it is checked."""

from stopkit.testing.checks import Check
from stopkit.testing.for_policies.decisions import (
    compiles_without_a_break,
    decides_on_the_device_of_the_engine,
    decides_without_waiting_for_the_device,
    gives_decisions_over_the_rows,
    keeps_the_form_of_its_state,
    preserves_the_output_distribution,
)
from stopkit.testing.for_policies.edges import (
    respects_its_cap,
    survives_certain_and_uniform_drafts,
    survives_every_precision,
    survives_the_end_of_all_sequences,
    survives_the_longest_blocks,
)
from stopkit.testing.for_policies.files import config_survives_a_file, state_survives_a_file
from stopkit.testing.for_policies.form import (
    bounds_every_number,
    describes_every_field,
    has_a_short_repr,
    says_what_it_is,
)
from stopkit.testing.for_policies.learning import (
    learns_from_any_round,
    learns_nothing_from_finished_sequences,
    learns_nothing_from_values_without_meaning,
)
from stopkit.testing.for_policies.purity import (
    gives_equal_answers_to_equal_questions,
    leaves_global_randomness_alone,
    leaves_its_inputs_unchanged,
    remembers_only_in_its_state,
)
from stopkit.testing.for_policies.rows import (
    decides_row_by_row,
    lets_sequences_leave_and_join,
    shares_only_what_it_declares,
)

POLICY_CHECKS: tuple[Check, ...] = (
    Check(says_what_it_is, examples=1),
    Check(describes_every_field, examples=1),
    Check(bounds_every_number, examples=1),
    Check(has_a_short_repr, examples=1),
    Check(config_survives_a_file, examples=9),
    Check(gives_decisions_over_the_rows),
    Check(keeps_the_form_of_its_state),
    Check(decides_on_the_device_of_the_engine, examples=10),
    Check(decides_without_waiting_for_the_device, examples=10),
    Check(compiles_without_a_break, examples=2),
    Check(gives_equal_answers_to_equal_questions),
    Check(leaves_its_inputs_unchanged),
    Check(leaves_global_randomness_alone),
    Check(remembers_only_in_its_state),
    Check(decides_row_by_row),
    Check(shares_only_what_it_declares),
    Check(lets_sequences_leave_and_join),
    Check(respects_its_cap),
    Check(survives_certain_and_uniform_drafts),
    Check(survives_every_precision),
    Check(survives_the_longest_blocks, examples=5),
    Check(survives_the_end_of_all_sequences),
    Check(learns_from_any_round),
    Check(learns_nothing_from_finished_sequences),
    Check(learns_nothing_from_values_without_meaning),
    Check(state_survives_a_file),
    Check(preserves_the_output_distribution, examples=30),
)
