"""`stopkit train-pair`: a tiny pair from start to end, an interruption in between, and bad recipes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from stopkit.pair import training
from stopkit.pair.corpus import read_further
from stopkit.pair.lessons import Distillation
from stopkit.pair.recipe import ModelSize
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


def test_a_draft_is_distilled_from_the_target(run: Run, arguments: list[object], tmp_path: Path) -> None:
    plan = ["--distil", "--distil-on", "noise.py", "--samples", 64]
    done = run(*arguments, *plan)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.index("target: step 4") < done.stdout.index("draft: step 3")
    figures = json.loads((tmp_path / "run" / "pair" / "card.json").read_text())
    assert figures["distillation"]["distil_on"] == ["noise.py"]
    assert "target's distribution" in (tmp_path / "run" / "pair" / "MODEL_CARD.md").read_text()

    more = ["train-pair", "--out", tmp_path / "more", "--target-of", tmp_path / "run" / "pair", *arguments[3:], *plan]
    assert run(*more).exit_code == 0
    for name in ("target", "draft"):  # the teacher is the same, but for its rounding to half precision
        before, after = (
            AutoModelForCausalLM.from_pretrained(tmp_path / each / "pair" / name).state_dict()
            for each in ("run", "more")
        )
        assert all(torch.allclose(before[key], after[key], atol=0 if name == "target" else 1e-2) for key in before)
    assert json.loads((tmp_path / "more" / "pair" / "card.json").read_text())["models"]["target"]["steps"] == 4


def test_a_draft_is_trained_on(run: Run, arguments: list[object], tmp_path: Path) -> None:
    assert run(*arguments).exit_code == 0
    pair = tmp_path / "run" / "pair"
    still = ["--target-of", pair, "--draft-from", pair, "--learning-rate", 1e-9, "--draft-layers", 7]
    assert run("train-pair", "--out", tmp_path / "more", *arguments[3:], *still).exit_code == 0
    before, after = (
        AutoModelForCausalLM.from_pretrained(tmp_path / each / "pair" / "draft").state_dict()
        for each in ("run", "more")
    )
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)

    other = run("train-pair", "--out", tmp_path / "other", *arguments[3:], "--draft-from", pair, "--vocabulary", 400)
    assert other.exit_code == 2
    assert "--draft-from: its draft has vocabulary" in other.stderr


@pytest.mark.parametrize("option", ["--target-of", "--draft-from"])
def test_a_pair_to_take_a_model_of_must_be_one(run: Run, arguments: list[object], option: str, tmp_path: Path) -> None:
    done = run(*arguments, option, tmp_path)
    assert done.exit_code == 2
    assert f"{option}: " in done.stderr
    assert "card.json" in done.stderr


def test_lessons_of_a_teacher(tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher, student = (training.build(ModelSize(layers=1, width=16, heads=1, vocabulary=300), 0) for _ in range(2))
    windows = torch.randint(300, (5, 12))
    lessons = Distillation(teacher, windows, tmp_path, batch=2, seed=3)
    seen = [lessons.batch(step) for step in range(5)]
    assert sorted(torch.cat([rows for rows, _ in seen])[:5].tolist()) == sorted(windows.tolist())
    for rows, states in seen:
        with torch.no_grad():
            p, q = (model(rows).logits.log_softmax(-1) for model in (teacher, student))
            expected = torch.nn.functional.kl_div(q, p, log_target=True, reduction="none").sum(-1).mean()
            assert float(lessons.loss(student, rows, states)) == pytest.approx(float(expected), abs=2e-3)
            assert float(lessons.loss(teacher, rows, states)) < 1e-3
    again = Distillation(teacher, windows, tmp_path, batch=2, seed=3)
    teacher.base_model.forward = None  # all is known by now
    assert all(torch.equal(a, b) for step in range(5) for a, b in zip(seen[step], again.batch(step), strict=True))


def test_further_text_has_no_tests_of_what_is_held_out(corpus: Path) -> None:
    (corpus / "test_apart.py").write_text("held out")
    assert [text.split("(")[0] for text in read_further(corpus, ("*.py",), ("apart.py",))] == [
        "def first_0",
        "def noise_0",
        "def second_0",
    ]


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
