"""Rules that hold a score against a threshold, beside their references."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stopkit import Costs, RoundContext, RoundOutcome, load_policy
from tests.policies.blocks import HUNDREDTHS, blocks, threshold_rule
from tests.policies.lockstep import Run, agree, runs

STOP_TOKEN = st.sampled_from(["exclude", "include"])


@pytest.mark.parametrize("update", ["fixed", "algorithm1"])
@pytest.mark.parametrize("stop_token", ["exclude", "include"])
@given(data=st.data(), run=runs())
def test_adaedl(stop_token: str, update: str, data: st.DataObject, run: Run) -> None:
    block = threshold_rule(
        "adaedl",
        {"stop_token": stop_token, "update": update, "min_draft": st.sampled_from([0, 1, 3])},
        gamma=st.integers(1, 100).map(lambda count: count / 100),
    )
    agree(data.draw(block), run)


@given(block=blocks("adaedl", carry_over=st.booleans()), run=runs(longest=9))
def test_adaedl_with_the_papers_constants(block: dict[str, Any], run: Run) -> None:
    agree(block, run)


@pytest.mark.parametrize("update", ["fixed", "algorithm1"])
@pytest.mark.parametrize("kind", ["max_probability", "margin"])
@given(data=st.data(), run=runs())
def test_max_probability_and_margin(kind: str, update: str, data: st.DataObject, run: Run) -> None:
    agree(data.draw(threshold_rule(kind, {"update": update}, stop_token=STOP_TOKEN)), run)


DISTRIBUTION = st.sampled_from(["sampled", "untempered"])


@given(block=threshold_rule("drawn_probability", {"update": "fixed"}, distribution=DISTRIBUTION), run=runs())
def test_drawn_probability_fixed(block: dict[str, Any], run: Run) -> None:
    agree(block, run)


DRAFT_AND_VERIFY = {
    "update": "algorithm1",
    "distribution": "untempered",
    "controller": {"full": "drafted", "initial_acceptance_rate": 0.0},
}


@given(
    block=blocks(
        "drawn_probability",
        {**DRAFT_AND_VERIFY, "threshold": st.sampled_from([0.8, 0.5]), "max_draft": st.sampled_from([8, 3])},
    ),
    run=runs(rows=2, rounds=8, longest=9),
)
def test_draft_and_verify(block: dict[str, Any], run: Run) -> None:
    agree(block, run)


@given(
    block=threshold_rule("drawn_probability", {"update": "algorithm1"}, distribution=DISTRIBUTION),
    run=runs(),
)
def test_drawn_probability_moving(block: dict[str, Any], run: Run) -> None:
    agree(block, run)


@pytest.mark.parametrize("carry_over", [False, True])
@given(data=st.data(), run=runs(rounds=12, longest=5))
def test_drawn_probability_by_roc(carry_over: bool, data: st.DataObject, run: Run) -> None:
    block = blocks(
        "drawn_probability",
        {"update": "roc", "carry_over": carry_over, "history": st.integers(6, 20)},
        threshold=st.sampled_from([0.0, 0.2, 0.4]),
        distribution=DISTRIBUTION,
        min_draft=st.integers(0, 3),
        max_draft=st.integers(1, 6),
    )
    drawn = data.draw(block)
    if drawn.get("distribution") == "untempered":
        run = replace(run, dtype=torch.float64)  # a softmax computed twice: the history would differ by its rounding
    agree(drawn, run)


@given(
    block=blocks("svip", scale=HUNDREDTHS, threshold=HUNDREDTHS, max_draft=st.integers(0, 5)),
    run=runs(rounds=3),
)
def test_svip(block: dict[str, Any], run: Run) -> None:
    agree(block, run)


@given(
    block=blocks("joint_confidence", threshold=HUNDREDTHS, min_draft=st.integers(0, 4), max_draft=st.integers(0, 5)),
    run=runs(rounds=3),
)
def test_joint_confidence(block: dict[str, Any], run: Run) -> None:
    agree(block, run)


@pytest.mark.parametrize(
    "kind", ["adaedl", "max_probability", "margin", "drawn_probability", "svip", "joint_confidence"]
)
@settings(max_examples=10)
@given(data=st.data())
def test_longest_blocks(kind: str, data: st.DataObject) -> None:
    """With a threshold that nothing fails the default cap ends the block."""
    never = {"svip": {"threshold": 100.0}, "joint_confidence": {"threshold": 1.0}}.get(kind, {"threshold": 0.0})
    agree({"kind": kind, **never}, data.draw(runs(rows=2, rounds=2, longest=45)))


@pytest.mark.parametrize(
    ("block", "value", "expected"),
    [
        ({"kind": "adaedl"}, "threshold", 0.701),  # AR .45 < α: .9·.7 + .1·.71
        ({"kind": "best_length", "prior": 0.0}, "judged", 1.95),
        ({"kind": "ema_length"}, "ema", 2.56),  # .8·(.8·4 + .2·0) + .2·0
    ],
)
def test_steps_are_not_rounded(block: dict[str, Any], value: str, expected: float) -> None:
    """State is float64 throughout; nothing of what a policy does to it depends on torch's default dtype."""
    policy = load_policy(block)
    context = RoundContext(torch.tensor([True]), torch.tensor([4]), Costs(*torch.ones(3, dtype=torch.float64)))
    outcome = RoundOutcome(context, torch.tensor([1]), torch.tensor([0]), torch.tensor(1.0))
    state = policy.init(1, torch.device("cpu"))
    for _ in range(1 if value == "threshold" else 2):
        state = policy.learn(state, outcome)
    assert state[value].flatten()[0].item() == pytest.approx(expected, rel=1e-12)
