"""Models, prompts, and what is read off a vLLM."""

import random
from typing import Any

from stopkit.pair import bundled

TARGET, DRAFT = (str(bundled.model_path(role)) for role in ("target", "draft"))
COSTS = {"draft_step": 0.1, "verify": 1.0, "verify_token": 0.05, "first_step": 0.0}
VOCABULARY = 4096


def prompts(count: int, shortest: int, longest: int, seed: int = 0) -> list[list[int]]:
    """Token ids that begin with words of code, and go on at random."""
    draw = random.Random(seed)
    return [[draw.randrange(300, 2000) for _ in range(draw.randint(shortest, longest))] for _ in range(count)]


def lengths(count: int, shortest: int, longest: int, seed: int = 0) -> list[int]:
    draw = random.Random(seed)
    return [draw.randint(shortest, longest) for _ in range(count)]


WORK: dict[str, tuple[list[list[int]], list[int]]] = {
    "eight": (prompts(8, 3, 12), [64] * 8),
    "many": (prompts(24, 8, 96, seed=1), lengths(24, 3, 90, seed=1)),
    "law": (prompts(168, 3, 8, seed=2), [120] * 168),
    "few": (prompts(3, 3, 12, seed=5), [24] * 3),
    "short": (prompts(8, 3, 8, seed=4), [24] * 8),
    "control": (prompts(64, 3, 8, seed=3), [120] * 64),
}
"""Prompts, and the most that each is to become, by name."""
V2 = ("max_probability", "static:length=3")
"""Policies that are tried under model runner V2."""
GREEDY, SAMPLED = "few", "short"
"""The workloads there, where a token takes its time, at temperatures 0 and 1."""
COUNTED = ("tokens", "rounds", "drafted", "accepted", "offered_by_position", "accepted_by_position")
"""What stopkit's own engine counts alike."""


def served(policy: Any = None, **options: Any) -> Any:
    """vLLM with the bundled pair, in this process, and stopkit in place."""
    from vllm import LLM

    given: dict[str, Any] = {
        "dtype": "float32",
        "enforce_eager": True,
        "disable_log_stats": False,
        "enable_prefix_caching": False,
        "worker_extension_cls": "stopkit_vllm.Extension",
        "additional_config": {"stopkit": {"policy": policy, "costs": COSTS, "strict": True}},
        "speculative_config": {
            "method": "draft_model",
            "model": DRAFT,
            "num_speculative_tokens": 8,
            "draft_sample_method": "probabilistic",
        },
    }
    return LLM(TARGET, **given | options)


def generate(llm: Any, name: str, **sampling: Any) -> list[list[int]]:
    """The tokens of a workload; greedy, if `sampling` says nothing else."""
    from vllm import SamplingParams

    texts, most = WORK[name]
    asked = [SamplingParams(**{"temperature": 0.0, "max_tokens": n, "ignore_eos": True} | sampling) for n in most]
    outputs = llm.generate([{"prompt_token_ids": text} for text in texts], asked, use_tqdm=False)
    return [list(output.outputs[0].token_ids) for output in outputs]


def counters(llm: Any) -> dict[str, Any]:
    """vLLM's own metrics of speculation and preemption, by name."""
    read = {metric.name.removeprefix("vllm:"): metric for metric in llm.get_metrics()}
    return {
        "rounds": read["spec_decode_num_drafts"].value,
        "drafted": read["spec_decode_num_draft_tokens"].value,
        "accepted": read["spec_decode_num_accepted_tokens"].value,
        "by_position": read["spec_decode_num_accepted_tokens_per_pos"].values,
        "preemptions": read["num_preemptions"].value,
    }


def statistics(llm: Any) -> dict[str, Any]:
    """What stopkit has counted."""
    (counted,) = llm.collective_rpc("stopkit_statistics")
    return dict(counted)
