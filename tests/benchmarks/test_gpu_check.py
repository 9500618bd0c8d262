"""`make gpu-check` in its small form runs to its end anywhere, and says what only a GPU can show."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from stopkit_engines.graphs.capture import ONE_ROW, ONE_TOKEN
from tests.docs.pages import ROOT
from tests.engines.models import random_model

BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def gpu_check(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_check

    return gpu_check


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_runs_to_its_end_without_a_gpu(tmp_path: Path) -> None:
    steps = ["tests", "speed", "bandwidth", "deciding"]
    command = [sys.executable, str(BENCHMARKS / "gpu_check.py"), "--steps", *steps, "--out", str(tmp_path)]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=one_thread)
    assert done.returncode == 0, done.stderr
    saved = json.loads((tmp_path / "small.json").read_text())
    assert saved["conditions"]["config"] == {"small": True, "steps": steps}
    assert len(done.stdout.splitlines()) < 40  # a screen
    rows = {row["what"]: row for row in saved["rows"]}
    assert {row["met"] for row in saved["rows"]} == {None}
    assert rows["draft step / bare replay, tiny and tinier"]["measured"] == "no CUDA device"
    assert rows["fused kernel, share of copy bandwidth, bfloat16"]["measured"] == "no CUDA device"
    assert 0 < rows["deciding, share of a round, tiny and tinier"]["value"] < 1


def test_a_step_that_fails_keeps_its_lines_and_stops_nothing(gpu_check: ModuleType) -> None:
    from gpu.lines import Line, Setting

    def fails(setting: Any) -> Iterator[Line]:
        yield Line("first", "1", "1", True)
        raise RuntimeError("out of memory\nsomewhere")

    first, second = gpu_check.outcome(fails, Setting(small=True, seconds=60))
    assert first.met
    assert second == Line("fails", "runs", "RuntimeError: out of memory", False)
    (late,) = gpu_check.outcome(fails, Setting(small=True, seconds=0))
    assert late == Line("fails", "runs", "no time was left", False)


def test_ballast_takes_time_and_says_nothing(gpu_check: ModuleType) -> None:
    from gpu.ballast import SIZES, Ballast, aboard, made

    ballast, tokens, seen = made("tinier", "cpu"), torch.tensor([[1, 2, 3]]), []
    ballast.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    target = random_model()
    alone = target(input_ids=tokens, logits_to_keep=1).logits
    with aboard(target, ballast):
        together = target(input_ids=tokens, logits_to_keep=1).logits
    target(input_ids=tokens)
    assert together.equal(alone)
    assert seen == [(1, 1, SIZES["tinier"].vocabulary)]
    with torch.device("meta"):
        count = sum(weight.numel() for weight in Ballast(SIZES["8B"]).parameters())
    assert 7.9e9 < count < 8.1e9


def test_what_is_replayed_is_the_graph_of_ordinary_steps(gpu_check: ModuleType) -> None:
    """The trial of a target runs single tokens, too."""
    from gpu.speed import last_replay

    graphs = {shape: SimpleNamespace(last=shape.name) for shape in (ONE_TOKEN, ONE_ROW)}
    engine = SimpleNamespace(_graphs={("draft", True): graphs, ("target", True): graphs})
    assert last_replay(engine, "draft") == "one token"
    assert last_replay(engine, "target") == "one row"
    engine._graphs["target", True] = {}
    assert last_replay(engine, "target") is None


def test_pytest_that_fails_is_not_met(gpu_check: ModuleType, tmp_path: Path) -> None:
    from gpu.tests import passed

    (tmp_path / "test_it.py").write_text("def test_it():\n    assert 0\n")
    line = passed("it", [str(tmp_path)], 60)
    assert line.met is False
    assert "1 failed" in line.measured
    assert passed("it", [str(tmp_path)], 0.01).measured == "not done after 0 s"
