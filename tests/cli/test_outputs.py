"""Nothing that was made is lost, and nothing of somebody else's is written over."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import optuna
import pytest
from click.testing import CliRunner

from stopkit import tables
from stopkit.cli.app import App, Command, echo
from stopkit.cli.outputs import WrittenElsewhere
from tests.cli.conftest import Run
from tests.trace.traces import Start, write

SHORT = ("--policy", "static:length=2", "--max-new-tokens", 4)
GOOD = [Start(3, 2, 2)] * 16
FOREIGN = "title = 'mine'\n"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return write(tmp_path / "t.parquet", [GOOD] * 5)


def refused(done: Any, *parts: str) -> None:
    assert done.exit_code == 2, done.output
    (line,) = done.stderr.strip().splitlines()
    for part in parts:
        assert part in line, line


def test_a_file_of_somebody_elses_is_not_written_over(run: Run, models: list[str], trace: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(FOREIGN)
    message = "is there already, and not by this command; name another file, or add --force."
    for arguments in (
        ["generate", "def", *models, *SHORT, "--json", mine],
        ["generate", "def", *models, *SHORT, "--save-state", mine],
        ["compare", *models, *SHORT, "--json", mine],
        ["policies", "--json", mine],
        ["tune", "static", "--trace", trace, "--out", mine, "--trials", 1, "--draft-cost", 0.1],
        ["trace", "report", trace, "--out", mine, "--policy", "static", "--draft-cost", 0.1],
        ["trace", "replay", trace, "--policy", "static", "--draft-cost", 0.1, "--json", trace],
    ):
        refused(run(*arguments), message)
    assert mine.read_text() == FOREIGN


def test_force_writes_over_it(run: Run, models: list[str], tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(FOREIGN)
    for arguments in (
        ["generate", "def", *models, *SHORT, "--json", mine, "--force"],
        ["policies", "--force", "--json", mine],
    ):
        mine.write_text(FOREIGN)
        assert run(*arguments, "--force").exit_code == 0
        assert "conditions" in json.loads(mine.read_text())


def test_what_it_wrote_itself_is_replaced(run: Run, models: list[str], trace: Path, tmp_path: Path) -> None:
    for arguments in (
        ["generate", "def", *models, *SHORT, "--json", tmp_path / "a.json", "--save-state", tmp_path / "a.safetensors"],
        ["tune", "static", "--trace", trace, "--out", tmp_path / "a.toml", "--trials", 1, "--draft-cost", 0.1],
        ["trace", "report", trace, "--out", tmp_path / "a.html", "--policy", "static", "--draft-cost", 0.1],
        ["policies", "--json", tmp_path / "b.json"],
    ):
        for _ in range(2):
            done = run(*arguments)
            assert done.exit_code == 0, done.output


def test_two_outputs_do_not_go_to_one_place(run: Run, models: list[str], tmp_path: Path) -> None:
    both, link = tmp_path / "both", tmp_path / "link"
    link.symlink_to(both)
    for json_to, state_to in ((both, both), (both, link), (f"{tmp_path}/./both", both)):
        done = run("generate", "def", *models, *SHORT, "--json", json_to, "--save-state", state_to)
        refused(done, "goes; name another file")
    both.touch()
    os.link(both, tmp_path / "twin")
    refused(run("generate", "def", *models, *SHORT, "--json", both, "--save-state", tmp_path / "twin"), "goes;")


def test_what_only_speaks_of_a_format_is_not_of_it(run: Run, models: list[str], trace: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    text = '{"note": "stopkit state 2"}\n# Tuned by `stopkit tune` <meta name="generator" content="stopkit">'
    for arguments in (
        ["generate", "def", *models, *SHORT, "--json", notes],
        ["generate", "def", *models, *SHORT, "--save-state", notes],
        ["tune", "static", "--trace", trace, "--out", notes, "--trials", 1, "--draft-cost", 0.1],
        ["trace", "report", trace, "--out", notes, "--policy", "static", "--draft-cost", 0.1],
    ):
        notes.write_text(text)
        refused(run(*arguments), "is there already")
        assert notes.read_text() == text


def test_only_what_streams_goes_to_standard_output_or_a_pipe(run: Run, models: list[str], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for place, message in (("-", "standard output cannot take it"), (pipe, "is no file")):
        refused(run("generate", "def", *models, *SHORT, "--save-state", place), message)
    assert run("policies", "--json", "-").exit_code == 0
    assert pipe.is_fifo()


def test_a_link_stays_one_and_neighbours_stay_as_they_are(run: Run, models: list[str], tmp_path: Path) -> None:
    real, link = tmp_path / "real.safetensors", tmp_path / "link.safetensors"
    precious = tmp_path / "real.safetensors.unfinished"
    precious.write_text(FOREIGN)
    link.symlink_to(real)
    for _ in range(2):
        assert run("generate", "def", *models, *SHORT, "--save-state", link).exit_code == 0
    assert link.is_symlink()
    assert real.stat().st_size
    assert precious.read_text() == FOREIGN
    assert {file.name for file in tmp_path.iterdir() if file.is_file()} == {real.name, link.name, precious.name}


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nowhere/x.json", "its folder does not exist"),
        ("folder", "is a folder; name a file"),
        ("sealed/x", "cannot be"),
    ],
)
def test_places_are_tried_before_the_work(run: Run, tmp_path: Path, place: str, message: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "sealed").mkdir(mode=0o500)
    if place.startswith("sealed") and os.access(tmp_path / "sealed", os.W_OK):
        pytest.skip("this user may write anywhere")
    refused(run("generate", "def", "--target", "no-such-model", "--json", tmp_path / place), "--json", message)


def test_an_output_that_fails_takes_no_other_with_it(
    run: Run, models: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, results = tmp_path / "gone" / "s.safetensors", tmp_path / "r.json"
    state.parent.mkdir()
    remove = tables.summary

    def summary(*arguments: Any) -> str:  # the last thing before files are written
        state.parent.rmdir()
        return remove(*arguments)

    monkeypatch.setattr(tables, "summary", summary)
    done = run("generate", "def", *models, *SHORT, "--save-state", state, "--json", results)
    assert done.exit_code == 1
    assert json.loads(results.read_text())["rows"]
    line = next(line for line in done.stderr.splitlines() if "cannot be written" in line)
    elsewhere = Path(line.partition("it is in ")[2].removesuffix(" instead."))
    assert elsewhere.name == "s.safetensors"
    assert elsewhere.is_file()
    elsewhere.unlink()
    elsewhere.parent.rmdir()


def test_a_terminated_generation_keeps_what_there_is(pair: Path, tmp_path: Path) -> None:
    results = tmp_path / "r.json"
    models = ["--target", str(pair / "target"), "--draft", str(pair / "draft")]
    command = ["generate", "def add(", *models, "--max-new-tokens", "700", "--policy", "static", "--json", str(results)]
    process = subprocess.Popen(
        [sys.executable, "-m", "stopkit", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.read(1)  # it has begun to speak
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "error: interrupted."
    (row,) = json.loads(results.read_text())["rows"]
    assert 0 < row["tokens"] < 700
    assert row["finish_reason"] is None


@pytest.mark.parametrize("wait", [0.05, 0.2, 0.5, 1.0])
def test_an_early_interrupt_is_as_quiet_as_a_late_one(pair: Path, wait: float) -> None:
    code = "import os, sys; sys.stdout.write('.'); sys.stdout.flush(); from stopkit.__main__ import main; main()"
    models = ["--target", str(pair / "target"), "--draft", str(pair / "draft")]
    process = subprocess.Popen(
        [sys.executable, "-c", code, "generate", "def add(", *models, "--max-new-tokens", "700"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.read(1)
    time.sleep(wait)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert said.splitlines()[-1] == "error: interrupted."


def test_a_search_killed_in_its_first_trial_still_tries_the_policy_as_it_was(
    run: Run, trace: Path, tmp_path: Path
) -> None:
    storage, out = f"sqlite:///{tmp_path / 's.db'}", tmp_path / "tuned.toml"
    arguments = ["tune", "static:length=2", "--trace", trace, "--out", out, "--draft-cost", 0.1, "--storage", storage]
    assert run(*arguments, "--trials", 1).exit_code == 0
    (name,) = optuna.get_all_study_names(storage)
    study = optuna.load_study(study_name=name, storage=storage)
    defaults = study.trials[0].params
    optuna.delete_study(study_name=name, storage=storage)
    study = optuna.create_study(study_name=name, storage=storage, direction="maximize")
    study.enqueue_trial(defaults)
    study.ask()  # begun, and never heard of again
    done = run(*arguments, "--trials", 1, "--json", tmp_path / "r.json")
    assert done.exit_code == 0, done.output
    study = optuna.load_study(study_name=name, storage=storage)
    assert [trial.params for trial in study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))] == [defaults]
    assert json.loads((tmp_path / "r.json").read_text())["conditions"]["config"]["trials"] == 1


def test_the_password_of_a_storage_is_not_shown(run: Run, trace: Path, tmp_path: Path) -> None:
    storage = "mysql+nothing://me:secret@nowhere/db"
    done = run("tune", "static", "--trace", trace, "--out", tmp_path / "t.toml", "--storage", storage)
    assert done.exit_code == 2
    assert "secret" not in done.output


def test_control_characters_reach_no_terminal_and_every_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    evil = "a\x1b]0;title\x07\x9b2J"
    for terminal in (True, False):
        out = io.StringIO()
        monkeypatch.setattr(out, "isatty", lambda terminal=terminal: terminal)
        monkeypatch.setattr(sys, "stdout", out)
        echo(evil)
        tables.write_json("-", {}, [{"text": evil}])
        screen = tables.console()
        screen.out(evil)
        screen.print(evil)
        said = out.getvalue()
        assert (r"\x1b]0;title\x07\x9b2J" in said) == terminal
        assert ("\x9b" in said) != terminal


def test_an_interrupt_does_not_hide_where_an_output_is() -> None:
    @click.command(cls=Command)
    def work() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise WrittenElsewhere("r.json: cannot be written (gone); it is in /elsewhere/r.json instead.") from None

    done = CliRunner().invoke(App(commands={"work": work}), ["work"])
    assert done.exit_code == 1
    assert done.stderr == "error: r.json: cannot be written (gone); it is in /elsewhere/r.json instead.\n"
