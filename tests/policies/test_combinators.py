"""Policies made of policies, beside their references; members include combinators."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stopkit import DraftController, Drawn, load_policy
from tests.policies.blocks import FLAG, HUNDREDTHS, Blocks, blocks
from tests.policies.lockstep import Run, agree, runs

SMALL = st.integers(1, 5)
MIDDLE = st.integers(30, 80).map(lambda count: count / 100)

SIMPLE = st.one_of(
    blocks("static", {"length": st.integers(0, 5)}),
    blocks("adaedl", {"max_draft": SMALL}, carry_over=FLAG, stop_token=st.sampled_from(["exclude", "include"])),
    blocks("max_probability", {"threshold": MIDDLE, "update": "algorithm1", "max_draft": SMALL}, carry_over=FLAG),
    blocks("drawn_probability", {"threshold": MIDDLE, "max_draft": SMALL}),
    blocks("drawn_probability", {"update": "roc", "history": 12}, carry_over=FLAG),
    blocks("joint_confidence", {"threshold": MIDDLE}),
    blocks("svip"),
    blocks("margin"),
    blocks("heuristic", {"start": SMALL}, carry_over=FLAG),
    blocks("ema_length", {"warmup": 0, "update_every": 2, "lengths": [0, 1, 3]}, carry_over=FLAG),
    blocks("best_length", {"max_draft": 4, "probe_every": 3}, carry_over=FLAG),
    blocks("batch_table", {"table": {1: 3, 3: {0: 1, 4: 2}}}),
    blocks("staircase", {"in_a_row": 2}, carry_over=FLAG),
    blocks("entropy_gate"),
    blocks("ratio_ucb", {"max_draft": 3}, carry_over=FLAG),
)


def by_position(of: Blocks) -> st.SearchStrategy[dict[str, dict[str, Any]]]:
    return st.dictionaries(st.integers(0, 4).map(str), of, min_size=1, max_size=3)


def several(of: Blocks) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(of, min_size=1, max_size=3)


def combined(of: Blocks) -> Blocks:
    """Any combinator of such members."""
    return st.one_of(
        blocks("first_of", {"policies": several(of)}),
        blocks("all_of", {"policies": several(of)}),
        blocks("capped", {"policy": of, "max_draft": st.integers(0, 5)}),
        blocks("warmup", {"first": of, "then": of, "rounds": st.integers(0, 4)}, carry_over=FLAG),
        blocks("per_position", {"policies": by_position(of)}),
        bandits(of),
        guards(of),
    )


def guards(of: Blocks, carry_over: bool | None = None) -> Blocks:
    return blocks(
        "guard",
        {"policy": of, "carry_over": FLAG if carry_over is None else carry_over},
        floor=st.sampled_from([0.5, 0.9, 0.999]),
        window=st.sampled_from([1, 10, 50]),
    )


def bandits(of: Blocks, algorithm: str | None = None, carry_over: bool | None = None) -> Blocks:
    return blocks(
        "bandit",
        {
            "policies": several(of),
            "algorithm": algorithm or st.sampled_from(["ucb1", "hedge"]),
            "carry_over": FLAG if carry_over is None else carry_over,
        },
        exploration=HUNDREDTHS,
        learning_rate=HUNDREDTHS,
    )


@pytest.mark.parametrize("kind", ["first_of", "all_of"])
@given(policies=several(SIMPLE), run=runs())
def test_side_by_side(kind: str, policies: list[dict[str, Any]], run: Run) -> None:
    agree({"kind": kind, "policies": policies}, run)


@given(policy=SIMPLE, most=st.integers(0, 6), run=runs())
def test_capped(policy: dict[str, Any], most: int, run: Run) -> None:
    agree({"kind": "capped", "policy": policy, "max_draft": most}, run)


@given(first=SIMPLE, then=SIMPLE, rounds=st.integers(0, 4), carry_over=FLAG, run=runs())
def test_warmup(first: dict[str, Any], then: dict[str, Any], rounds: int, carry_over: bool, run: Run) -> None:
    agree({"kind": "warmup", "first": first, "then": then, "rounds": rounds, "carry_over": carry_over}, run)


@pytest.mark.parametrize("carry_over", [False, True])
@given(data=st.data(), run=runs(rounds=12))
def test_guard(carry_over: bool, data: st.DataObject, run: Run) -> None:
    agree(data.draw(guards(SIMPLE, carry_over)), run)


@given(policies=by_position(SIMPLE), run=runs())
def test_per_position(policies: dict[str, dict[str, Any]], run: Run) -> None:
    agree({"kind": "per_position", "policies": policies}, run)


def test_side_by_side_from_a_later_position() -> None:
    """Four tokens, two accepted: whoever drafted to the end has AR = .5·.9 + .5·.5, wherever it began."""
    member = {"kind": "max_probability", "threshold": 0.0, "update": "algorithm1"}
    late = {"kind": "first_of", "policies": [member]}
    policy = load_policy({"kind": "per_position", "policies": {"0": {"kind": "static", "length": 4}, "2": late}})
    controller = DraftController(policy)
    controller.plan(4)
    while controller.live.any():
        controller.admit(torch.tensor([[0.5, 0.5]]))
        controller.extend(Drawn(torch.tensor([0]), torch.tensor([0.5])))
    controller.learn(2)
    assert controller.state.parts[1].parts[0]["acceptance_rate"].tolist() == pytest.approx([0.7])


@pytest.mark.parametrize("carry_over", [False, True])
@pytest.mark.parametrize("algorithm", ["ucb1", "hedge"])
@given(data=st.data(), run=runs(rounds=9, longest=5))
def test_bandit(algorithm: str, carry_over: bool, data: st.DataObject, run: Run) -> None:
    block = data.draw(bandits(SIMPLE, algorithm=algorithm, carry_over=carry_over))
    agree(block, run)


@given(block=combined(st.one_of(SIMPLE, combined(SIMPLE))), run=runs())
def test_nested(block: dict[str, Any], run: Run) -> None:
    agree(block, run)


@pytest.mark.parametrize("kind", ["first_of", "all_of", "capped", "bandit", "guard"])
@given(run=runs())
def test_default_members(kind: str, run: Run) -> None:
    agree({"kind": kind}, run)
