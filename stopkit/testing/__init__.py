"""Public tools that prove a policy or an engine right.

`check_policy` and `check_engine` run every check of the kit; `policy_checks` and `engine_checks` make a pytest test of
each. `TableModel` is a model small enough to enumerate; `exact_output_distribution` runs the real engine over every
random choice and adds up probabilities; `assert_distribution_preserved` compares that with the target's own
distribution.
"""

from stopkit.testing.checks import Check, ConformanceError, Result, Verdict
from stopkit.testing.exact import (
    assert_distribution_preserved,
    exact_output_distribution,
    target_distribution,
    total_variation,
)
from stopkit.testing.kit import check_engine, check_policy, engine_checks, policy_checks
from stopkit.testing.scripted import ScriptedSource
from stopkit.testing.table_model import TableConfig, TableModel

__all__ = [
    "Check",
    "ConformanceError",
    "Result",
    "ScriptedSource",
    "TableConfig",
    "TableModel",
    "Verdict",
    "assert_distribution_preserved",
    "check_engine",
    "check_policy",
    "engine_checks",
    "exact_output_distribution",
    "policy_checks",
    "target_distribution",
    "total_variation",
]
