"""Threads may load engines at the same time, and share one."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from stopkit import Signals, State, StoppingPolicy
from stopkit.config import load_engine
from stopkit.pair.tokenizer import train_tokenizer
from tests.engines.conftest import PROMPTS
from tests.engines.models import random_model

THREADS = 4


class Hidden(StoppingPolicy):
    """Decides by the draft's hidden states, so that what another thread's forward left behind would show."""

    kind: ClassVar[str] = "hidden"
    signals: ClassVar[frozenset[str]] = frozenset({"hidden_state"})

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        return signals.hidden_state.mean(-1) > 0, state


def all_at_once(work: Callable[[int], Any]) -> list[Any]:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, range(THREADS)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("model")
    random_model().save_pretrained(place)
    tokenizer: PreTrainedTokenizerFast = train_tokenizer(["a b c d"], 300, 96)
    tokenizer.save_pretrained(place)
    return place


def test_threads_that_load_at_once(folder: Path) -> None:
    block = {"kind": "eager", "target": str(folder), "draft": str(folder)}
    options: dict[str, Any] = {"policy": "static:length=3", "max_new_tokens": 12, "temperature": 0}
    expected = load_engine(block).generate(PROMPTS, **options).tokens
    for tokens in all_at_once(lambda number: load_engine(block).generate(PROMPTS, **options).tokens):
        assert tokens == expected


def test_threads_that_share_an_engine_and_ask_for_its_models_first(folder: Path) -> None:
    engine = load_engine({"kind": "eager", "target": str(folder), "draft": str(folder)})
    models = all_at_once(lambda number: engine.models)  # type: ignore[attr-defined]
    assert all(each is models[0] for each in models)
    policies = ["static:length=3", "adaedl", "goodput", "max_probability"]
    options: dict[str, Any] = {"max_new_tokens": 30, "temperature": 0}
    expected = engine.generate(PROMPTS, "autoregressive", **options).tokens
    for _ in range(3):
        said = all_at_once(lambda number: engine.generate(PROMPTS, policies[number], **options).tokens)
        assert said == [expected] * THREADS


def test_threads_do_not_see_each_others_hidden_states(folder: Path) -> None:
    engine = load_engine({"kind": "eager", "target": str(folder), "draft": str(folder)})
    options: dict[str, Any] = {"max_new_tokens": 30, "temperature": 0}
    alone = [engine.generate(prompt, Hidden(), **options).stats for prompt in PROMPTS]
    for _ in range(3):
        said = all_at_once(lambda number: engine.generate(PROMPTS[number], Hidden(), **options).stats)
        assert [(one.rounds, one.drafted) for one in said] == [(one.rounds, one.drafted) for one in alone]
