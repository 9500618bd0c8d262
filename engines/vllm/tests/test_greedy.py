"""At temperature 0 the tokens are those of vLLM without stopkit, and the counts those of stopkit's own engine."""

from typing import Any

import pytest
from transformers import AutoModelForCausalLM

import stopkit
from work import DRAFT, TARGET, WORK, counters, generate, statistics

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


@pytest.fixture(scope="module")
def eager() -> Any:
    """stopkit's own engine, with models that know no end."""
    models = [AutoModelForCausalLM.from_pretrained(path, dtype="float32") for path in (TARGET, DRAFT)]
    for model in models:
        model.generation_config.eos_token_id = model.config.eos_token_id = None
    return stopkit.wrap(*models)


@pytest.mark.parametrize("policy", BY_ITSELF)
def test_counts_are_those_of_the_eager_engine(llm: Any, plain: Any, use: Any, eager: Any, policy: str) -> None:
    use(policy)
    before = counters(llm)
    tokens = generate(llm, "eight")
    assert tokens == plain("eight")
    ours, theirs = statistics(llm), counters(llm)
    result = eager.generate(
        [prompt + given[:1] for prompt, given in zip(WORK["eight"][0], tokens, strict=True)],
        policy=policy,
        max_new_tokens=63,
        temperature=0.0,
    )
    for name in ("tokens", "rounds", "drafted", "accepted", "offered_by_position", "accepted_by_position"):
        assert ours[name] == getattr(result.stats, name), name
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
