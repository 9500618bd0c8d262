"""What every policy must do, in the order in which it is checked."""

from stopkit.testing.checks import Check

POLICY_CHECKS: tuple[Check, ...] = ()
