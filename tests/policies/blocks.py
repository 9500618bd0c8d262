"""Config blocks for the tests: parameters on a grid, so that small examples stay readable."""

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

Blocks = st.SearchStrategy[dict[str, Any]]

HUNDREDTHS = st.integers(0, 100).map(lambda count: count / 100)
FEW = st.integers(0, 5)
FLAG = st.booleans()

CONTROLLER = st.fixed_dictionaries(
    {},
    optional={
        "alpha": HUNDREDTHS,
        "epsilon": HUNDREDTHS,
        "beta1": HUNDREDTHS,
        "beta2": HUNDREDTHS,
        "initial_acceptance_rate": st.none() | HUNDREDTHS,
        "full": st.sampled_from(["accepted", "drafted"]),
    },
)


def blocks(kind: str, given: Mapping[str, Any] = {}, **optional: st.SearchStrategy[Any]) -> Blocks:
    """A block of `kind` with the fields `given` (values or strategies) and any of the `optional` ones."""
    fixed = {name: value if isinstance(value, st.SearchStrategy) else st.just(value) for name, value in given.items()}
    return st.fixed_dictionaries({"kind": st.just(kind), **fixed}, optional=optional)


def threshold_rule(kind: str, given: Mapping[str, Any] = {}, **optional: st.SearchStrategy[Any]) -> Blocks:
    """A rule with a threshold that may move, and any of its parameters."""
    common = {
        "threshold": HUNDREDTHS,
        "max_draft": FEW,
        "min_draft": st.integers(0, 3),
        "controller": CONTROLLER,
        "carry_over": FLAG,
        "update": st.sampled_from(["fixed", "algorithm1"]),
    }
    optional = {name: values for name, values in {**common, **optional}.items() if name not in given}
    return blocks(kind, given, **optional)
