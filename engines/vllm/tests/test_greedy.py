"""At temperature 0 the tokens are those of vLLM without stopkit, and the counts those of stopkit's own engine."""

from typing import Any

import pytest

from work import COUNTED, counters, generate, statistics

BY_ITSELF = [
    "static:length=3",
    "adaedl",
    "max_probability",
    "margin",
    "svip",
    "ema_length:carry_over=false",
]
"""Policies of which a request's blocks do not depend on who else is there."""
OTHERS = ["goodput", "bandit", "capped:policy.kind=max_probability,max_draft=2"]


@pytest.mark.parametrize("policy", BY_ITSELF)
def test_counts_are_those_of_the_eager_engine(llm: Any, plain: Any, use: Any, eager: Any, policy: str) -> None:
    use(policy)
    before = counters(llm)
    tokens = generate(llm, "eight")
    assert tokens == plain("eight")
    ours, theirs = statistics(llm), counters(llm)
    assert {name: ours[name] for name in COUNTED} == eager(policy, tokens)
    assert theirs["drafted"] - before["drafted"] == ours["drafted"]
    assert theirs["accepted"] - before["accepted"] == ours["accepted"]
    assert theirs["rounds"] - before["rounds"] == ours["offered_by_position"][0], "vLLM counts rounds with a block"
    positions = [now - then for now, then in zip(theirs["by_position"], before["by_position"], strict=True)]
    assert positions[: len(ours["accepted_by_position"])] == ours["accepted_by_position"]
    assert not any(positions[len(ours["accepted_by_position"]) :])


@pytest.mark.parametrize("policy", OTHERS)
def test_requests_join_and_leave(llm: Any, plain: Any, use: Any, policy: str) -> None:
    use(policy)
    assert generate(llm, "many") == plain("many")


def test_drafting_ends_when_nobody_drafts_on(llm: Any, use: Any) -> None:
    use("static:length=2")
    generate(llm, "eight")
    counted = statistics(llm)
    assert counted["draft_forwards"] <= 2 * counted["target_forwards"] + 4, "one step more, at each join, reads prompts"


def test_without_a_policy_vllm_drafts_by_itself(llm: Any, plain: Any) -> None:
    before = counters(llm)
    assert generate(llm, "eight") == plain("eight")
    now = counters(llm)
    assert now["drafted"] - before["drafted"] == 8 * (now["rounds"] - before["rounds"])
    assert statistics(llm) == {}
