"""Greedy decoding: the engine's tokens are the target's own."""

from functools import cache
from typing import Any

import torch
from hypothesis import strategies as st

from stopkit.engine import Engine
from stopkit.testing.checks import Draw
from stopkit.testing.for_engines.drafting import blocks
from stopkit.testing.for_engines.workloads import continued, over, workloads

VOCABULARY = 40


def greedy_tokens_are_the_targets_own(engine: type[Engine], draw: Draw) -> None:
    """At temperature 0 every prompt is continued as forwards over whole prefixes continue it."""
    work = draw(workloads(temperature=0.0))
    expected = [continued(work.target, prompt, work.max_new_tokens) for prompt in work.prompts]
    tokens = work.run(engine).tokens
    assert tokens == expected, f"the target's own tokens are {expected}, and the engine's {tokens}"


def greedy_tokens_are_those_of_transformers(engine: type[Engine], draw: Draw) -> None:
    """At temperature 0 a Llama model is continued as its own `generate` continues it."""
    target, draft = llamas()
    prompt = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=9)
    prompts = draw(st.lists(prompt, min_size=1, max_size=3))
    expected = [
        target.generate(torch.tensor([each]), do_sample=False, max_new_tokens=12)[0, len(each) :].tolist()
        for each in prompts
    ]
    result = over(engine, target, draft).generate(prompts, draw(blocks(VOCABULARY)), temperature=0.0, max_new_tokens=12)
    assert result.tokens == expected, f"transformers gives {expected}, and the engine {result.tokens}"


@cache
def llamas() -> tuple[Any, Any]:
    """A small random target and a draft that agrees with it often but not always."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    with torch.random.fork_rng(devices=()), torch.no_grad():
        torch.manual_seed(0)
        target, draft = (LlamaForCausalLM(config).eval() for _ in range(2))
        target.lm_head.weight.mul_(8)  # so that it prefers some tokens, and rounding decides nothing
        for mine, other in zip(draft.parameters(), target.parameters(), strict=True):
            mine.copy_(other + 0.02 * torch.randn_like(other))
    return target, draft
