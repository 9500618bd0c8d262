"""A server without room: requests that are cut, preempted, and read their prompts in pieces; contexts that fill."""

from typing import Any

import pytest

from work import counters, generate, served, statistics


@pytest.fixture(scope="module")
def crowded() -> Any:
    """Six seats, prompts of up to 96 tokens in pieces of 48, and room for less than three whole contexts."""
    return served(
        max_num_seqs=6,
        max_model_len=192,
        max_num_batched_tokens=64,
        block_size=32,
        num_gpu_blocks_override=16,
        enable_prefix_caching=True,
    )


@pytest.mark.parametrize("policy", ["static:length=3", "max_probability", "heuristic"])
def test_tokens_are_the_same(crowded: Any, plain: Any, policy: str) -> None:
    crowded.collective_rpc("stopkit_use", args=(policy,))
    before = counters(crowded)
    assert generate(crowded, "many") == plain("many")
    now, ours = counters(crowded), statistics(crowded)
    assert now["preemptions"] > before["preemptions"], "nobody was preempted: make room scarcer"
    strangers = (now["drafted"] - before["drafted"]) - ours["drafted"]
    assert strangers >= 0, "what vLLM had verified and is not ours are placeholders of resumed requests"
    assert now["accepted"] - before["accepted"] >= ours["accepted"]
