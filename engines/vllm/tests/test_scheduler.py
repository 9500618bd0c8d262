"""One length a step, by a policy that only plans, for drafters that ask nobody."""

from typing import Any

import pytest

from work import counters, generate, served


@pytest.mark.parametrize(
    ("policy", "longest"), [("heuristic", 8), ("static:length=3", 3), ("autoregressive", 0)], ids=str
)
def test_a_policy_plans_for_the_batch(plain: Any, policy: str, longest: int) -> None:
    llm = served(
        max_num_seqs=8,
        max_model_len=256,
        scheduler_cls="stopkit_vllm.PlanScheduler",
        additional_config={"stopkit": {"policy": policy}},
    )
    assert generate(llm, "eight") == plain("eight")
    counted = counters(llm)
    if longest:
        assert counted["drafted"] > 0
        assert counted["drafted"] <= longest * counted["rounds"]
    else:
        assert counted["drafted"] == 0
