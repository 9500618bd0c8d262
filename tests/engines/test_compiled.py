"""The compiled engine says what the eager one says, whatever of it is compiled."""

import logging
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from stopkit import PolicyError, Signals, State, StoppingPolicy
from stopkit.controller import DraftController
from stopkit_engines.compiled import CompiledEngine
from stopkit_engines.eager import EagerEngine
from stopkit_engines.graphs import artefacts, worker
from tests.engines.conftest import POLICIES, PROMPTS
from tests.engines.models import noisy_copy, random_model

ASKED: dict[str, Any] = {"max_new_tokens": 20, "temperature": 0}


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for compiled graphs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(artefacts, "_faults", {})
    return artefacts.folder()


@pytest.fixture(scope="module")
def plain(target: Any, draft: Any) -> CompiledEngine:
    return CompiledEngine.from_models(target, draft, compile=False)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_what_is_captured_says_what_the_eager_engine_says(
    plain: CompiledEngine, engine: EagerEngine, policy: str, batch_size: int
) -> None:
    said, wanted = (each.generate(PROMPTS, policy, batch_size=batch_size, **ASKED) for each in (plain, engine))
    assert said.tokens == wanted.tokens
    assert said.stats.drafted == wanted.stats.drafted
    assert said.stats.target_forwards == wanted.stats.target_forwards


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_draft_step_is_one_call(plain: CompiledEngine, monkeypatch: pytest.MonkeyPatch, batch_size: int) -> None:
    taken, take = [], DraftController.take
    monkeypatch.setattr(DraftController, "take", lambda self, step: taken.append(step.drew) or take(self, step))
    stats = plain.generate(PROMPTS[:batch_size], "static:length=3", max_new_tokens=40, seed=1).stats
    assert len(taken) >= stats.draft_forwards - 2  # but for reading a prompt
    assert all(taken)


class Fails(StoppingPolicy):
    """Raises once a block has two tokens."""

    kind: ClassVar[str] = "fails"

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        if (position == 2).any():
            raise KeyError("threshold")
        return super().admit(state, position, signals)


def test_a_policy_that_fails_within_a_step_is_named(plain: CompiledEngine) -> None:
    with pytest.raises(PolicyError, match=r"policy 'fails' .*, admit, line \d+: KeyError: 'threshold'"):
        plain.generate(PROMPTS[:1], Fails(), max_new_tokens=40)


def test_drawing_is_the_same_too(plain: CompiledEngine, engine: EagerEngine) -> None:
    options = {"max_new_tokens": 30, "temperature": 0.8, "seed": 3}
    said, wanted = (each.generate(PROMPTS, "adaedl", **options) for each in (plain, engine))
    assert said.tokens == wanted.tokens


def test_what_cannot_be_captured_runs_eagerly_and_says_why(
    target: Any, draft: Any, kept: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries = []

    def fail(*of: Any, **how: Any) -> None:
        tries.append(of)
        raise RuntimeError("data-dependent\nbranch")

    monkeypatch.setattr(torch.export, "export", fail)
    compiled = CompiledEngine.from_models(target, draft)
    with caplog.at_level(logging.INFO, "stopkit"):
        said = compiled.generate(PROMPTS[:1], "static:length=3", **ASKED)
        again = compiled.generate(PROMPTS[:1], "static:length=3", **ASKED)
    assert said.tokens == again.tokens
    assert (
        said.tokens == EagerEngine.from_models(target, draft).generate(PROMPTS[:1], "static:length=3", **ASKED).tokens
    )
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [
        f"{name} runs eagerly: it cannot be captured, RuntimeError: data-dependent branch."
        for name in ("engine.target", "engine.draft", "what surrounds forwards")
    ]
    assert len(tries) == 7
    assert not list(kept.iterdir())


def test_a_compiler_that_fails_is_told(
    target: Any, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit('no compiler here')")
    monkeypatch.setattr(worker, "__file__", str(broken))
    with caplog.at_level(logging.INFO, "stopkit"):
        CompiledEngine.from_models(target, target).generate(PROMPTS[:1], "static", **ASKED)
    assert "engine.target runs eagerly: it cannot be compiled, no compiler here." in caplog.text


def test_a_model_that_rolls_back_in_another_way_runs_eagerly(caplog: pytest.LogCaptureFixture) -> None:
    import transformers

    config = transformers.Lfm2Config(
        vocab_size=40,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        layer_types=["conv", "full_attention"],
        block_ff_dim=16,
        max_position_embeddings=64,
    )
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with caplog.at_level(logging.INFO, "stopkit"):
        CompiledEngine.from_models(model, model, compile=False).generate(PROMPTS[:1], "static", max_new_tokens=4)
    assert "engine.target runs eagerly: it runs as one row" in caplog.text


@pytest.mark.compiles
def test_graphs_say_what_the_eager_engine_says(kept: Path, caplog: pytest.LogCaptureFixture) -> None:
    target = random_model()
    models = target, noisy_copy(target)
    eager = EagerEngine.from_models(*models)
    options = {"max_new_tokens": 40, "temperature": 0.8, "seed": 3}
    with caplog.at_level(logging.INFO, "stopkit"):
        for prompts in (PROMPTS[:1], PROMPTS):
            for policy in ("adaedl", "adaedl:max_draft=1", "adaedl"):
                said = CompiledEngine.from_models(*models).generate(prompts, policy, **options)
                wanted = eager.generate(prompts, policy, **options)
                assert said.tokens == wanted.tokens
                assert said.stats.drafted == wanted.stats.drafted
    assert not [record for record in caplog.records if record.levelno == logging.WARNING]
    compiled = [record for record in caplog.records if record.getMessage().startswith("Compiled in")]
    assert len(compiled) == 6  # models and steps, for a row and for rows, and two policies; afterwards they are found
    assert sorted(file.suffix for file in kept.iterdir()) == [".pt2"] * 18
