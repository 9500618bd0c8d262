"""Rules that choose a draft length before the round, beside their references."""

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.policies.blocks import HUNDREDTHS, blocks
from tests.policies.lockstep import Run, agree, runs

MARK = st.integers(-8, 8).map(lambda count: count / 4)


@given(block=blocks("static", length=st.integers(0, 8)), run=runs(rounds=2))
def test_static(block: dict[str, Any], run: Run) -> None:
    agree(block, run)


@pytest.mark.parametrize("carry_over", [False, True])
@given(data=st.data(), run=runs(rounds=8, longest=12))
def test_heuristic(carry_over: bool, data: st.DataObject, run: Run) -> None:
    block = blocks(
        "heuristic",
        {"carry_over": carry_over},
        start=st.integers(1, 6),
        increase=st.integers(0, 3),
        decrease=st.integers(0, 3),
    )
    agree(data.draw(block), run)


@pytest.mark.parametrize("carry_over", [False, True])
@given(data=st.data(), run=runs(rounds=14))
def test_ema_length(carry_over: bool, data: st.DataObject, run: Run) -> None:
    block = blocks(
        "ema_length",
        {
            "carry_over": carry_over,
            "lengths": st.lists(st.integers(0, 6), min_size=1, max_size=5, unique=True),
            "warmup": st.integers(0, 3),
            "update_every": st.integers(1, 3),
        },
        smoothing=st.integers(1, 100).map(lambda count: count / 100),
        down=MARK,
        up=MARK,
    )
    agree(data.draw(block), run)


@pytest.mark.parametrize("carry_over", [False, True])
@settings(max_examples=15)
@given(data=st.data())
def test_ema_length_as_sglang_sets_it(carry_over: bool, data: st.DataObject) -> None:
    lengths = data.draw(st.sampled_from([{}, {"lengths": [0, 1, 3]}, {"lengths": [3, 1, 0], "down": 0.0}]))
    run = data.draw(runs(rows=2, rounds=40, longest=4))
    agree({"kind": "ema_length", "carry_over": carry_over, **lengths}, run)


LENGTH = st.integers(0, 6)
BY_TEXT = st.dictionaries(st.integers(0, 8), LENGTH, min_size=1, max_size=3)


@given(
    block=blocks("batch_table", table=st.dictionaries(st.integers(1, 8), LENGTH | BY_TEXT, min_size=1, max_size=4)),
    run=runs(rows=4, rounds=3),
)
def test_batch_table(block: dict[str, Any], run: Run) -> None:
    agree(block, run)


@pytest.mark.parametrize("carry_over", [False, True])
@given(data=st.data(), run=runs(rounds=10))
def test_best_length(carry_over: bool, data: st.DataObject, run: Run) -> None:
    block = blocks(
        "best_length",
        {"carry_over": carry_over, "probe_every": st.integers(1, 5)},
        max_draft=st.integers(1, 6),
        decay=st.integers(1, 20).map(lambda count: count / 20),
        prior=HUNDREDTHS,
        prior_weight=st.integers(1, 40).map(lambda count: count / 8),
    )
    agree(data.draw(block), run)


@pytest.mark.parametrize("carry_over", [False, True])
@given(data=st.data(), run=runs(rounds=12))
def test_staircase(carry_over: bool, data: st.DataObject, run: Run) -> None:
    block = blocks(
        "staircase",
        {"carry_over": carry_over, "in_a_row": st.integers(1, 3)},
        start=st.integers(1, 6),
        bias=st.integers(0, 2),
        min_draft=st.integers(1, 3),
        max_draft=st.integers(1, 6),
    )
    agree(data.draw(block), run)


@given(
    block=blocks(
        "entropy_gate",
        length=st.integers(0, 6),
        smoothing=st.integers(1, 8).map(lambda count: count / 8),
        low=st.integers(0, 64).map(lambda count: count / 16),
        high=st.integers(0, 64).map(lambda count: count / 16),
    ),
    run=runs(rounds=10),
)
def test_entropy_gate(block: dict[str, Any], run: Run) -> None:
    agree(block, run)


@pytest.mark.parametrize("carry_over", [False, True])
@given(data=st.data(), run=runs(rounds=16))
def test_ratio_ucb(carry_over: bool, data: st.DataObject, run: Run) -> None:
    assume(run.costs.draft_step + run.costs.verify_token > 0)  # else all lengths tie, and rounding decides
    block = blocks(
        "ratio_ucb",
        {"carry_over": carry_over, "max_draft": st.integers(1, 4)},
        exploration=HUNDREDTHS,
        overhead=st.integers(0, 16).map(lambda count: count / 4),
    )
    agree(data.draw(block), run)
