"""Public tools that prove a policy or an engine right.

`TableModel` is a model small enough to enumerate; `exact_output_distribution` runs the real engine over every random
choice and adds up probabilities; `assert_distribution_preserved` compares that with the target's own distribution.
"""

from stopkit.testing.exact import (
    assert_distribution_preserved,
    exact_output_distribution,
    target_distribution,
    total_variation,
)
from stopkit.testing.scripted import ScriptedSource
from stopkit.testing.table_model import TableConfig, TableModel

__all__ = [
    "ScriptedSource",
    "TableConfig",
    "TableModel",
    "assert_distribution_preserved",
    "exact_output_distribution",
    "target_distribution",
    "total_variation",
]
