"""`stopkit demo`: the bundled pair, at a small size."""

import json
from pathlib import Path

import pytest

from stopkit_engines import compiled
from tests.cli.conftest import Run


def test_demo(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    done = run("demo", "--prompts-count", 1, "--max-new-tokens", 6, "--repeats", 1, "--json", out)
    assert done.exit_code == 0, done.stderr
    rows = json.loads(out.read_text())["rows"]
    names = ["autoregressive", "static", "adaedl", "max_probability", "goodput"]
    assert [(row["temperature"], row["policy"]) for row in rows] == [(t, name) for t in (0, 0.7) for name in names]
    for part in (
        "temperature 0.7",
        "max_probability",
        "outside the models' forwards",
        "goodput, temperature 0",
        "bonus",
        "At temperature 0.7 ",
    ):
        assert part in done.stdout


def test_the_fastest_engine_that_is_ready_runs(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # nothing is compiled
    small = ("--prompts-count", 1, "--max-new-tokens", 2, "--repeats", 1)
    done = run("demo", *small, "--json", tmp_path / "out.json")
    assert "--engine compiled compiles it first" in done.stderr
    assert json.loads((tmp_path / "out.json").read_text())["rows"][0]["engine"] == "eager"

    monkeypatch.setitem(compiled.BACKENDS, "cpu", compiled.PLAIN)  # which is always ready
    done = run("demo", *small, "--json", tmp_path / "out.json", "--force")
    assert "--engine" not in done.stderr
    assert json.loads((tmp_path / "out.json").read_text())["rows"][0]["engine"] == "compiled"
