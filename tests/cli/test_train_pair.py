"""`stopkit train-pair`: a tiny pair from start to end, an interruption in between, and bad recipes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from stopkit.pair import training
from tests.cli.conftest import Run

SIZES = {
    "vocabulary": 300,
    "context": 32,
    "target-layers": 2,
    "target-width": 16,
    "target-heads": 2,
    "target-steps": 4,
    "draft-layers": 1,
    "draft-width": 16,
    "draft-heads": 1,
    "draft-steps": 3,
    "batch": 2,
    "micro-batch": 2,
    "report-every": 0,
}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name in ("first", "second", "apart", "noise"):
        lines = [f"def {name}_{number}(a, b):\n    return a + b * {number}\n" for number in range(40)]
        (folder / f"{name}.py").write_text("".join(lines))
    return folder


@pytest.fixture
def arguments(corpus: Path, tmp_path: Path) -> list[object]:
    globs = ["--include", "*.py", "--exclude", "noise.py", "--hold-out", "apart.py"]
    sizes = [part for name, size in SIZES.items() for part in (f"--{name}", size)]
    return ["train-pair", "--out", tmp_path / "run", "--corpus", corpus, *globs, *sizes]


def test_from_start_to_end(run: Run, arguments: list[object], tmp_path: Path) -> None:
    done = run(*arguments)
    assert done.exit_code == 0, done.stderr
    assert "2 files with" in done.stdout
    assert "draft: step 3" in done.stdout
    assert "target: step 4" in done.stdout
    assert "held-out" in done.stdout
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} == {"tokenizer", "draft", "target", "pair"}

    figures = json.loads((folder / "pair" / "card.json").read_text())
    assert figures["data"]["held_out_modules"] == ["apart.py"]
    assert figures["models"]["target"]["steps"] == 4
    assert figures["models"]["draft"]["parameters"] > 0
    assert set(figures["acceptance_probability"]) == {"0", "0.7", "1"}
    assert all(0 <= beta <= 1 for beta in figures["acceptance_probability"].values())
    assert figures["step_milliseconds"]["target"] > 0
    card = (folder / "pair" / "MODEL_CARD.md").read_text()
    for part in ("apart.py", "| layers | 2 | 1 |", "β", "milliseconds", "Licence"):
        assert part in card
    assert str(tmp_path) not in card

    shared = AutoTokenizer.from_pretrained(folder / "pair" / "draft")
    for name in ("target", "draft"):
        model = AutoModelForCausalLM.from_pretrained(folder / "pair" / name, dtype="auto")
        assert model.dtype == torch.float16
        assert AutoTokenizer.from_pretrained(folder / "pair" / name).get_vocab() == shared.get_vocab()
    pair = ("--target", folder / "pair" / "target", "--draft", folder / "pair" / "draft")
    assert run("generate", "def", *pair, "--max-new-tokens", 4).exit_code == 0


def test_an_interrupted_run_goes_on(
    run: Run, arguments: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = training._step
    calls = []

    def interrupted(*parts: Any) -> float:
        calls.append(1)
        if len(calls) == 3 + 3:  # the draft's three steps and two of the target's
            raise KeyboardInterrupt
        return step(*parts)

    monkeypatch.setattr(training, "_step", interrupted)
    done = run(*arguments)
    assert done.exit_code == 130
    assert "--resume" in done.stderr
    again = run(*arguments)
    assert again.exit_code == 2
    assert "--resume" in again.stderr

    resumed = run(*arguments, "--resume")
    assert resumed.exit_code == 0, resumed.stderr
    assert len(calls) == 3 + 3 + 2
    assert json.loads((tmp_path / "run" / "pair" / "card.json").read_text())["models"]["target"]["steps"] == 4

    monkeypatch.setattr(training, "_step", step)
    whole = ["train-pair", "--out", tmp_path / "whole", *arguments[3:]]
    assert run(*whole).exit_code == 0
    weights = [
        AutoModelForCausalLM.from_pretrained(tmp_path / name / "pair" / "target").state_dict()
        for name in ("run", "whole")
    ]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--target-width", "8"], ("target.width", "greater than or equal to 16")),
        (["--draft-heads", "3"], ("draft", "width 16 must be a multiple of twice the 3 heads")),
        (["--vocabulary", "100"], ("vocabulary", "greater than or equal to 260")),
        (["--target-minutes", "-1"], ("target.minutes", "greater than 0")),
        (["--hold-out", "nothing.txt", "--exclude", "apart.py"], ("no file matches the held-out globs", "--hold-out")),
        (["--include", "*.c"], ("no file matches", "--include")),
        (["--context", "4096"], ("tokens; at least 8192, two contexts, are needed",)),
    ],
)
def test_bad_recipes(run: Run, arguments: list[object], options: list[str], parts: tuple[str, ...]) -> None:
    if options[0] == "--include":
        arguments = [part for part in arguments if part not in ("--include", "*.py")]
    done = run(*arguments, *options)
    assert done.exit_code == 2, done.stderr
    for part in parts:
        assert part in done.stderr
