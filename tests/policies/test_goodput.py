"""`goodput` beside its reference, and its rounds by hand."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stopkit_policies import acceptance_model, goodput
from tests.policies.lockstep import Run, agree, runs

SMALL = {"TOKENS": 4, "TRIGRAMS": 7}
"""Tables in which three tokens collide, and that are quick to compare."""


@contextmanager
def small(**constants: Any) -> Iterator[None]:
    with patch.dict(vars(acceptance_model), SMALL), patch.dict(vars(goodput), constants):
        yield


@pytest.mark.parametrize("longest", [3, 64])
@given(run=runs(rounds=8, longest=5))
def test_goodput(longest: int, run: Run) -> None:
    with small(LONGEST=longest):
        agree({"kind": "goodput"}, run)


@given(run=runs(rows=2, rounds=40, longest=3))
def test_waits(run: Run) -> None:
    with small(FIRST_WAIT=2.0, LONGEST_WAIT=4.0, FIRST_RATE=4.0):
        agree({"kind": "goodput"}, run)


GOODPUT, STATIC = {"kind": "goodput"}, {"kind": "static", "length": 2}
MEMBERS = st.sampled_from(
    [
        {"kind": "bandit", "policies": [GOODPUT, STATIC], "algorithm": "hedge"},
        {"kind": "all_of", "policies": [GOODPUT, STATIC]},
        {"kind": "per_position", "policies": {"0": GOODPUT, "2": {"kind": "margin"}}},
        {"kind": "capped", "policy": GOODPUT, "max_draft": 2},
    ]
)


@given(block=MEMBERS, run=runs(rounds=8, longest=5))
def test_as_a_member(block: dict[str, Any], run: Run) -> None:
    with small():
        agree(block, run)
