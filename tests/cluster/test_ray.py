"""A recording on a Ray cluster is the recording of one process, whoever dies on the way."""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stopkit.trace.files import read_metadata
from stopkit.trace.recorder import Rollouts
from stopkit.trace.recording import Recording
from stopkit.trace.trace import Trace
from tests.cli.conftest import Run
from tests.trace.conftest import assert_same_rows
from tests.trace.traces import by_chance, write

pytestmark = pytest.mark.ray
PROMPTS = ["def add(", "for item", "print(", "return", "a + b", "items:", "def", "in"]


def workers(cluster: Any) -> list[int]:
    """The processes of a cluster that are workers of a fleet."""
    raylets = {node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()}
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            title, parent = (place / "cmdline").read_bytes(), (place / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if title.startswith(b"ray::Worker") and int(parent) in raylets:
            found.append(int(place.name))
    return found


@pytest.fixture
def arguments(models: list[str], tmp_path: Path) -> list[object]:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(PROMPTS))
    sizes: list[object] = ["--max-new-tokens", 24, "--max-draft", 4, "--batch-size", 2]
    return ["trace", "record", *models, "--prompts", prompts, *sizes]


def after_first(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> list[int]:
    """Do that as soon as one sequence is recorded; what is returned fills with the sequences as they come."""
    complete, seen = Recording.run, list[int]()

    def then(self: Recording, path: Path, resume: bool, begin: Any, tick: Any) -> None:
        def told(rollouts: Rollouts) -> None:
            tick(rollouts)
            seen.append(rollouts.sequence)
            if len(seen) == 1:
                act()

        complete(self, path, resume, begin, told)

    monkeypatch.setattr(Recording, "run", then)
    return seen


def test_a_worker_dies_and_a_machine_is_taken_away(
    run: Run, arguments: list[object], tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, together = tmp_path / "alone.parquet", tmp_path / "together.parquet"
    assert run(*arguments, "--out", alone).exit_code == 0

    with monkeypatch.context() as changed:
        before: list[int] = []

        def kill() -> None:
            before.extend(workers(cluster))
            os.kill(before[0], signal.SIGKILL)

        seen = after_first(changed, kill)
        done = run(*arguments, "--out", together, "--ray", cluster.address)
    assert done.exit_code == 0, done.stderr
    assert len(before) == 2, "one worker on each machine"
    assert len(re.findall("A worker died, at the sequences .*; another one begins.", done.stderr)) == 1
    assert sorted(seen) == list(range(8)), "no sequence is lost, none is there twice"
    assert_same_rows(together, alone)
    told = read_metadata(together)
    assert told.conditions["config"]["workers"] == 2
    assert told.conditions["config"]["loaded"] == read_metadata(alone).conditions["config"]["loaded"]
    assert told.timings is not None

    again = tmp_path / "again.parquet"
    with monkeypatch.context() as changed:
        seen = after_first(changed, lambda: cluster.remove_node(cluster.other))
        done = run(*arguments, "--out", again, "--ray", cluster.address)
    assert done.exit_code == 0, done.stderr
    cluster.other = cluster.add_node(num_cpus=2)
    assert sorted(seen) == list(range(8)), "the machine that is left does the rest"
    assert_same_rows(again, alone)


def test_wrong_input_and_interrupts_are_as_without_ray(
    run: Run, arguments: list[object], tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = tmp_path / "prompts.txt"
    whole = prompts.read_text()
    path, where = tmp_path / "t.parquet", ["--ray", cluster.address, "--workers", 1]
    prompts.write_text("a\nb\nc\n" + "x = 1; " * 800)
    done = run(*arguments, "--out", path, *where)
    assert done.exit_code == 2
    assert f"error: {prompts}:4: has " in done.stderr, "a wrong prompt is named by its place"
    path.unlink(missing_ok=True)

    prompts.write_text(whole)

    with monkeypatch.context() as changed:
        after_first(changed, lambda: os.kill(os.getpid(), signal.SIGTERM))
        done = run(*arguments, "--out", path, *where)
    assert done.exit_code == 130
    assert "Sequences that are missing: 7; --resume records them." in done.stderr
    done = run(*arguments, "--out", path, *where, "--resume")
    assert done.exit_code == 0, done.stderr
    assert Trace.open(path).sequences == tuple(range(8))


def test_a_search_on_several_machines(run: Run, tmp_path: Path, cluster: Any) -> None:
    path, out = write(tmp_path / "t.parquet", by_chance(0, [9] * 6)), tmp_path / "tuned.toml"
    search = ["tune", "max_probability", "--trace", path, "--out", out, "--draft-cost", 0.1, "--fields", "threshold"]
    done = run(*search, "--trials", 9, "--for", "sglang", "--ray", cluster.address)
    assert done.exit_code == 0, done.stderr
    assert "Trials: 9." in done.stdout
    assert "--speculative-num-steps" in done.stdout
    here = run(*search, "--trials", 9)
    scores = [re.findall(r"tuned-on sequences: speed-up ([.\d]+) tuned", each.stdout) for each in (done, here)]
    assert scores[0] == scores[1], "the study is there, and what the workers found is what is found here"
    best = re.search(r"tuned-on sequences: speed-up ([.\d]+) tuned, ([.\d]+) before", done.stdout)
    assert best
    assert float(best[1]) >= float(best[2]), "the search began with the policy as it is"


def test_an_address_where_nobody_is(run: Run, arguments: list[object], tmp_path: Path) -> None:
    done = run(*arguments, "--out", tmp_path / "t.parquet", "--ray", "nonsense://x")
    assert done.exit_code == 2
    assert "--ray: nonsense://x: no cluster can be reached: " in done.stderr
