"""`stopkit check`: verdicts with their reasons, the smallest counter-example, exit codes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

import stopkit.testing.for_engines
import stopkit.testing.for_policies
from stopkit import StoppingPolicy, load_policy
from stopkit.testing.checks import EXAMPLES, Check, Draw, Skipped
from tests.cli.conftest import Run


def holds(subject: Any, draw: Draw) -> None:
    """What must hold, holds."""
    draw(st.integers())


def is_small(subject: Any, draw: Draw) -> None:
    """No number is large."""
    number = draw(st.integers(0, 1000))
    if number >= 10:
        raise AssertionError(f"{number} is too large\nfor a second line")


def flies(subject: Any, draw: Draw) -> None:
    """It can fly."""
    raise Skipped("it has no wings")


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """One check that passes, one that fails, one that is skipped."""
    monkeypatch.setattr(stopkit.testing.for_policies, "POLICY_CHECKS", (Check(holds), Check(is_small), Check(flies)))
    monkeypatch.setattr(stopkit.testing.for_engines, "ENGINE_CHECKS", (Check(holds), Check(flies)))


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


@pytest.mark.usefixtures("checks")
def test_what_fails_is_shown_with_its_smallest_counter_example(run: Run) -> None:
    done = run("check", "static:length=2")
    assert done.exit_code == 1
    assert done.stderr == "error: static:length=2: 1 of 3 checks failed.\n"
    _, _, *rows = done.stdout.partition("\n\n")[0].splitlines()
    assert [cells(row) for row in rows] == [
        ["holds", "What must hold, holds.", "passed"],
        ["is_small", "No number is large.", "failed", "10 is too large"],
        ["flies", "It can fly.", "skipped", "it has no wings"],
    ]
    assert done.stdout.partition("\n\n")[2].splitlines() == [
        "is_small: failed",
        "    10 is too large",
        "    for a second line",
        "    with:",
        "    10",
    ]


@pytest.mark.usefixtures("checks")
def test_an_engine_by_its_kind(run: Run) -> None:
    done = run("check", "eager")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "skipped" in done.stdout


@pytest.mark.usefixtures("checks")
def test_json(run: Run, tmp_path: Path) -> None:
    alone = run("check", "static", "--examples", 7, "--json", "-")
    beside = run("check", "static", "--json", tmp_path / "out.json")
    assert (alone.exit_code, beside.exit_code) == (1, 1)
    assert "is_small" in beside.stdout
    document = json.loads(alone.stdout)
    assert document["conditions"]["config"] == {"subject": "static", "examples": 7}
    assert document["rows"][1:] == [
        {
            "check": "is_small",
            "promise": "No number is large.",
            "verdict": "failed",
            "reason": "10 is too large\nfor a second line",
            "example": "10",
        },
        {
            "check": "flies",
            "promise": "It can fly.",
            "verdict": "skipped",
            "reason": "it has no wings",
            "example": "",
        },
    ]
    assert json.loads((tmp_path / "out.json").read_text())["conditions"]["config"]["examples"] == EXAMPLES


def test_the_default_is_told(run: Run) -> None:
    assert f"{EXAMPLES} if not given" in run("check", "--help").stdout


@pytest.mark.usefixtures("checks")
def test_an_interrupt_keeps_what_is_known(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stop(subject: Any, draw: Draw) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stopkit.testing.for_policies, "POLICY_CHECKS", (Check(holds), Check(stop), Check(flies)))
    done = run("check", "static", "--json", tmp_path / "out.json")
    assert done.exit_code == 130
    assert [cells(row)[-1] for row in done.stdout.splitlines()[2:]] == ["passed", "stop", "It can fly."]
    assert [row["check"] for row in json.loads((tmp_path / "out.json").read_text())["rows"]] == ["holds"]


def test_a_policy_of_a_config_file(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[StoppingPolicy] = []

    def see(subject: StoppingPolicy, draw: Draw) -> None:
        """Keeps what it is given."""
        seen.append(subject)

    monkeypatch.setattr(stopkit.testing.for_policies, "POLICY_CHECKS", (Check(see),))
    path = tmp_path / "config.toml"
    path.write_text('[policy]\nkind = "static"\nlength = 3')
    assert run("check", path).exit_code == 0
    assert seen[0] == load_policy("static:length=3")


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("eagre", ("KIND: there is no policy or engine 'eagre'. Did you mean 'eager'?", "adaedl")),
        ("adaedle:gamma=0.1", ("KIND: there is no policy or engine 'adaedle'. Did you mean 'adaedl'?",)),
        ("adaedl:gama=0.1", ("policy.gama: unknown field", "Did you mean 'gamma'?")),
        ("adaedl:gamma", ("KIND: 'gamma'", "has no value")),
        ("eager:device=cpu", ("KIND: an engine is checked by its kind alone; write eager.",)),
        ("no-such.toml", ("no-such.toml: cannot be read",)),
    ],
)
def test_wrong_input(run: Run, kind: str, parts: tuple[str, ...]) -> None:
    done = run("check", kind)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    for part in parts:
        assert part in done.stderr


def test_the_engine_that_comes_with_it(run: Run) -> None:
    done = run("check", "eager", "--examples", 1)
    assert done.exit_code == 0, done.output
    assert "failed" not in done.stdout


def test_without_assertions_nothing_is_said_to_pass() -> None:
    command = [sys.executable, "-O", "-m", "stopkit", "check", "static"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Python ignores with -O" in done.stderr
