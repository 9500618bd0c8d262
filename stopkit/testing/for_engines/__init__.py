"""What every engine must do, in the order in which it is checked."""

from stopkit.testing.checks import Check

ENGINE_CHECKS: tuple[Check, ...] = ()
