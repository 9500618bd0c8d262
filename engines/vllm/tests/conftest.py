"""What the tests share: vLLM in this process, and what it says without stopkit, from a process of its own."""

import os

os.environ.update(
    HF_HUB_OFFLINE="1",
    OMP_NUM_THREADS="1",
    VLLM_CPU_KVCACHE_SPACE="1",
    VLLM_CPU_OMP_THREADS_BIND="nobind",
    VLLM_ENABLE_V1_MULTIPROCESSING="0",
    VLLM_LOGGING_LEVEL="WARNING",
)

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM
from vllm import LLM

import stopkit

sys.path.insert(0, str(Path(__file__).parent))
from work import COUNTED, DRAFT, TARGET, WORK, served


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Greedy tokens of every workload from vLLM without speculation and without a plug-in, by name."""
    out = tmp_path_factory.mktemp("plain") / "tokens.json"
    command = [sys.executable, str(Path(__file__).with_name("plain.py")), str(out)]
    started = subprocess.Popen(command, env=os.environ | {"VLLM_PLUGINS": ""}, stdout=subprocess.DEVNULL)
    tokens: dict[str, Any] = {}

    def of(name: str) -> list[list[int]]:
        if not tokens:
            assert started.wait() == 0, "vLLM without stopkit failed"
            tokens.update(json.loads(out.read_text()))
        return tokens[name]

    yield of
    started.kill()


@pytest.fixture(scope="session")
def eager() -> Any:
    """What stopkit's own engine counts on the prompts of a workload and the first of its tokens, which has no round."""
    models = [AutoModelForCausalLM.from_pretrained(path, dtype="float32") for path in (TARGET, DRAFT)]
    for model in models:
        model.generation_config.eos_token_id = model.config.eos_token_id = None
    engine = stopkit.wrap(*models)

    @cache
    def counts(policy: str, firsts: tuple[int, ...], name: str) -> dict[str, Any]:
        texts, most = WORK[name]
        prompts = [[*text, first] for text, first in zip(texts, firsts, strict=True)]
        stats = engine.generate(prompts, policy=policy, max_new_tokens=most[0] - 1, temperature=0.0).stats
        return {name: getattr(stats, name) for name in COUNTED}

    return lambda policy, tokens, name="eight": counts(policy, tuple(given[0] for given in tokens), name)


@pytest.fixture(scope="session")
def llm(plain: Any) -> Any:
    """Four seats, drafts that are sampled where the request is, and a policy that each test chooses."""
    return served(max_num_seqs=4, max_model_len=256)


@pytest.fixture
def use(llm: LLM) -> Any:
    """Let a policy decide in `llm`; nobody does afterwards."""
    yield lambda policy: llm.collective_rpc("stopkit_use", args=(policy,))
    llm.collective_rpc("stopkit_use", args=(None,))
