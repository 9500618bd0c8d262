"""`stopkit trace record`: what its options do, what it says, and what an interrupt leaves."""

import os
import re
import signal
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from stopkit.trace.files import read_metadata, recorded_sequences
from stopkit.trace.recording import Recording
from stopkit.trace.trace import Trace
from tests.cli.conftest import Run

PROMPTS = ["def add(", "for item", "print("]


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stopkit_engines.hf.timing.REPEATS", 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "t.parquet"


@pytest.fixture
def arguments(models: list[str], tmp_path: Path, path: Path) -> list[object]:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(PROMPTS))
    return ["trace", "record", *models, "--prompts", prompts, "--max-new-tokens", 6, "--max-draft", 4, "--out", path]


def test_it_is_listed(run: Run) -> None:
    assert "\n  trace " in run("--help").stdout
    assert "\n  record " in run("trace", "--help").stdout


def test_a_trace(run: Run, arguments: list[object], path: Path) -> None:
    done = run(*arguments)
    assert done.exit_code == 0, done.stderr
    size = path.stat().st_size / 18
    assert re.fullmatch(
        rf"{path}: 18 tokens, {size:.0f} bytes per token; \d+\.\d tokens recorded per second\.\n", done.stdout
    )
    metadata = read_metadata(path)
    assert (metadata.sequences, metadata.sampling.temperature, metadata.seed) == (3, 1.0, 0)
    assert Trace.open(path).tokens == 18


def test_options(run: Run, arguments: list[object], path: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("[generation]\nseed = 5\ntemperature = 0.3\n")
    more: list[object] = ["--config", config, "--temperature", 0.5, "--top-k", 9, "--top-p", 0.9, "--min-p", 0.01]
    done = run(*arguments, *more, "--hidden-state", "--top-k-logits", 2, "--batch-size", 2, "--rollouts", 3)
    assert done.exit_code == 0, done.stderr
    metadata = read_metadata(path)
    assert metadata.sampling.model_dump() == {"temperature": 0.5, "top_k": 9, "top_p": 0.9, "min_p": 0.01}
    assert (metadata.seed, metadata.top_k_logits, metadata.hidden_state) == (5, 2, True)
    assert {name: metadata.conditions["config"][name] for name in ("batch_size", "rollouts")} == {
        "batch_size": 2,
        "rollouts": 3,
    }


def test_shards(run: Run, arguments: list[object], tmp_path: Path) -> None:
    for number in (1, 2):
        done = run(*arguments[:-1], tmp_path / f"{number}.parquet", "--shard", f"{number}/2")
        assert done.exit_code == 0, done.stderr
    assert recorded_sequences(tmp_path / "1.parquet") == {0, 2}
    assert recorded_sequences(tmp_path / "2.parquet") == {1}
    assert Trace.open(tmp_path).sequences == (0, 1, 2)


def test_held_out_prompts(run: Run, models: list[str], path: Path) -> None:
    done = run("trace", "record", *models, "--max-new-tokens", 2, "--out", path)
    assert done.exit_code == 0, done.stderr
    assert read_metadata(path).sequences == 4
    other = path.with_name("u.parquet")
    assert run("trace", "record", *models, "--max-new-tokens", 2, "--out", other, "--count", 2).exit_code == 0
    assert read_metadata(other).sequences == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_interrupted_and_resumed(
    run: Run, arguments: list[object], path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    complete, handler = Recording.run, signal.getsignal(signal.SIGTERM)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background

    def interrupted(self: Recording, path: Path, resume: bool, begin: Any, tick: Any) -> None:
        def then(rollouts: Any) -> None:
            tick(rollouts)
            if rollouts.sequence == 1:
                os.kill(os.getpid(), number)

        complete(self, path, resume, begin, then)

    with monkeypatch.context() as changed:
        changed.setattr(Recording, "run", interrupted)
        done = run(*arguments)
    signal.signal(signal.SIGINT, before)
    assert done.exit_code == 130
    assert done.stdout.startswith(f"{path}: 12 tokens, ")
    assert done.stderr.split("\n") == [
        "Sequences that are missing: 1; --resume records them.", "", "error: interrupted.", ""
    ]  # fmt: skip
    assert signal.getsignal(signal.SIGTERM) == handler

    again = run(*arguments)
    assert again.exit_code == 2
    assert f"{path}: exists; --resume goes on with it" in again.stderr
    assert again.stdout == ""

    resumed = run(*arguments, "--resume")
    assert resumed.exit_code == 0, resumed.stderr
    assert resumed.stdout.startswith(f"{path}: 18 tokens, ")
    complete_already = run(*arguments, "--resume")
    assert (complete_already.exit_code, "per second" in complete_already.stdout) == (0, False)


def test_progress_where_there_is_no_terminal(
    run: Run, arguments: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    watching = import_module("stopkit.cli.trace.watching")  # a command's name hides the package of that name
    monkeypatch.setattr(watching, "LINE_SECONDS", 0.0)
    lines = run(*arguments).stderr.splitlines()
    assert len(lines) == 3
    for number, line in enumerate(lines, start=1):
        assert re.fullmatch(rf"{number} of 3 sequences, \d+ tokens/s, 0:00:\d\d left", line)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--out", "t.txt"], "t.txt: a trace's name ends in .parquet"),
        (["--out", "no/t.parquet"], "its folder does not exist"),
        (["--count", "2"], "Give either --prompts or --count."),
        (["--shard", "3/2"], "--shard: '3/2' is no shard; write i/n"),
        (["--shard", "9/9"], "shard: 9/9 of 3 prompts has none"),
        (["--temperature", "-1"], "temperature"),
        (["--max-draft", "0"], "--max-draft"),
        (["--prompts", "none.txt"], "none.txt: cannot be read"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_input_is_one_line(run: Run, arguments: list[object], more: list[str], line: str) -> None:
    done = run(*arguments, *more)
    assert done.exit_code == 2
    assert line in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_a_wrong_prompt_is_named_by_its_place(run: Run, arguments: list[object], tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("def f(\n" + "x = 1; " * 800)
    done = run(*arguments)
    assert done.exit_code == 2
    assert f"{tmp_path / 'prompts.txt'}:2: has " in done.stderr


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is the second of two."""
    for name, value in {"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_LOCALID": "1"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("slurm")
def test_a_launcher_gives_the_part(run: Run, arguments: list[object], tmp_path: Path) -> None:
    done = run(*arguments[:-1], tmp_path / "{shard}.parquet")
    assert done.exit_code == 0, done.stderr
    path = tmp_path / "2-of-2.parquet"
    assert done.stderr.splitlines() == [f"Slurm runs 2 of these; this one records 2/2 to {path}."]
    assert recorded_sequences(path) == {1}
    assert read_metadata(path).shard == "2/2"


@pytest.mark.usefixtures("slurm")
def test_parts_that_would_be_one_file(run: Run, arguments: list[object], path: Path) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    named = path.with_name("t-{shard}.parquet")
    assert f"{path}: Slurm runs 2 of these, each with a part; write {named}, or give --shard 1/1" in done.stderr
    assert not path.exists()
    done = run(*arguments, "--shard", "1/1")
    assert (done.exit_code, done.stderr) == (0, "")
    assert recorded_sequences(path) == {0, 1, 2}


@pytest.mark.usefixtures("slurm")
def test_a_process_takes_a_gpu_of_its_own(
    run: Run, arguments: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    done = run(*arguments[:-1], tmp_path / "{shard}.parquet")
    assert "engine.device: cuda:1 was asked for and torch finds no CUDA device" in done.stderr
    done = run(*arguments[:-1], tmp_path / "{shard}.parquet", "--device", "cpu")
    assert done.exit_code == 0, done.stderr


def test_workers_are_those_of_a_cluster(run: Run, arguments: list[object]) -> None:
    done = run(*arguments, "--workers", 2)
    assert done.exit_code == 2
    assert "--workers goes with --ray." in done.stderr
