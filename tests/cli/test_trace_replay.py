"""`stopkit trace replay`: the table and the JSON, every cost, what is left out, wrong input, and nothing is lost."""

import json
from pathlib import Path
from typing import Any

import pytest

import stopkit.trace.comparison
from stopkit.plugins import registry
from stopkit.statistics import Statistics
from stopkit.trace.format import Timings
from tests.cli.conftest import Run
from tests.trace.traces import by_chance, write

BOUNDS = ["hindsight", "clairvoyant", "best_static", "autoregressive"]
LENGTHS = [9, 14, 6]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "t.parquet", by_chance(5, LENGTHS))


def rows_of(run: Run, *arguments: object) -> list[dict[str, Any]]:
    done = run("trace", "replay", *arguments, "--json", "-")
    assert done.exit_code == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)["rows"]
    return rows


def test_rows(run: Run, path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    specs = ["static:length=2", "best_length"]
    arguments = [part for spec in specs for part in ("--policy", spec)]
    done = run(
        "trace", "replay", path, *arguments, "--draft-cost", "0.02,0.4", "--verify-cost", "0.02,0.15", "--json", out
    )
    assert done.exit_code == 0, done.stderr
    document = json.loads(out.read_text())
    rows = document["rows"]
    cells = [(step, token) for token in (0.02, 0.15) for step in (0.02, 0.4)]
    assert [(row["draft_cost"], row["verify_cost"]) for row in rows[::6]] == cells
    for first in range(0, 24, 6):
        best, other, *bounds = rows[first : first + 6]
        assert {best["policy"], other["policy"]} == set(specs)
        assert best["speedup"] >= other["speedup"]
        assert [row["policy"] for row in bounds] == BOUNDS
    for row in rows:
        assert set(row) == set(Statistics().as_dict()) | {
            "policy", "engine", "temperature", "batch_size", "draft_cost", "verify_cost", "speedup", "of_clairvoyant",
            "speedup_interval", "of_best", "of_best_interval", "like_best",
        }  # fmt: skip
        assert (row["engine"], row["temperature"], row["batch_size"], row["tokens"]) == ("replay", 0.7, 1, sum(LENGTHS))
        time = row["rounds"] + row["draft_cost"] * row["draft_forwards"] + row["verify_cost"] * row["drafted"]
        assert row["speedup"] == pytest.approx(row["tokens"] / time)
        best = next(
            other["speedup"] for other in rows
            if other["policy"] == "clairvoyant"
            and all(other[key] == row[key] for key in ("draft_cost", "verify_cost"))
        )  # fmt: skip
        assert row["of_clairvoyant"] == pytest.approx(row["speedup"] / best)
    assert all(row["speedup"] == 1 for row in rows if row["policy"] == "autoregressive")
    config = document["conditions"]["config"]
    assert config["policy"]["static:length=2"] == {"kind": "static", "length": 2}
    assert config["trace"]["max_draft"] == 4
    for word in (*specs, *BOUNDS, "draft cost 0.4, verify cost 0.15", "Tokens: 29 in 3 sequences"):
        assert word in done.stdout


def test_without_policies_all_that_the_trace_can_serve(run: Run, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Logician(stopkit.StoppingPolicy):
        kind = "logician"
        signals = frozenset({"logits"})

    class Demanding(stopkit.StoppingPolicy):
        kind = "demanding"
        size: int

    for cls in (Logician, Demanding):
        monkeypatch.setitem(registry().policies, cls.kind, cls)
    done = run("trace", "replay", path, "--draft-cost", "0.1", "--json", path.with_suffix(".json"))
    assert done.exit_code == 0, done.stderr
    document = json.loads(path.with_suffix(".json").read_text())
    replayed = [row["policy"] for row in document["rows"][: -len(BOUNDS)]]
    left_out = document["conditions"]["config"]["left_out"]
    assert {*replayed, *left_out} == {*registry().policies, "static:length=2"}
    assert {"static", "adaedl", "goodput", "static:length=2"} <= set(replayed)
    combinators = {kind for kind, cls in registry().policies.items() if issubclass(cls, stopkit.Combinator)}
    assert {"bandit", "first_of", "guard"} <= combinators
    assert combinators <= left_out.keys(), "with their default members they are no rivals"
    assert "Left out: logician: reads logits; no trace holds it." in done.stdout
    assert "Left out: demanding: " in done.stdout


def test_default_costs(run: Run, path: Path) -> None:
    rows = rows_of(run, path, "--policy", "static")
    assert [(row["draft_cost"], row["verify_cost"]) for row in rows[::6]] == [
        (step, 0.02) for step in (0.02, 0.05, 0.1, 0.2, 0.4)
    ]


def test_measured_costs(run: Run, tmp_path: Path) -> None:
    timings = Timings(draft_step=0.001, verify=(0.01, 0.0112, 0.0118, 0.0121))
    path = write(tmp_path / "t.parquet", by_chance(5, LENGTHS), timings)
    done = run(
        "trace", "replay", path, "--policy", "static:length=2", "--measured-costs", "--json", tmp_path / "o.json"
    )
    rows = json.loads((tmp_path / "o.json").read_text())["rows"]
    slope, above = 0.00045, 0.0117 - 2 * 0.00045 - 0.01  # least squares over 1, 2, 3; what it has at 0 beyond 0.01
    assert all(row["draft_cost"] == pytest.approx(0.1) for row in rows)
    assert all(row["verify_cost"] == pytest.approx(slope / 0.01) for row in rows)
    static, autoregressive = rows[0], rows[-1]
    assert static["seconds"]["verify"] == pytest.approx(
        0.01 * static["rounds"] + slope * static["drafted"] + above * static["offered_by_position"][0]
    )
    assert autoregressive["tokens_per_second"] == pytest.approx(100)
    assert autoregressive["speedup"] == pytest.approx(1)
    assert f"misses the times to verify by {(0.0118 - 0.0117) / 0.0118:.1%} at most" in done.stdout


def test_a_part_of_the_trace(run: Run, path: Path) -> None:
    def tokens(*more: object) -> int:
        return int(rows_of(run, path, "--policy", "static", "--draft-cost", "0.1", *more)[0]["tokens"])

    assert tokens("--sequences", 2) == 9 + 14
    assert tokens("--max-new-tokens", 8) == 8 + 8 + 6
    assert tokens("--max-new-tokens", 8, "--sequences", 1) == 8


def test_the_baseline_is_there_once(run: Run, path: Path) -> None:
    rows = rows_of(run, path, "--policy", "autoregressive", "--draft-cost", "0.1")
    assert sorted(row["policy"] for row in rows) == sorted([*BOUNDS, "static:length=2"])


def test_the_table_is_sorted_and_cut_and_the_file_is_whole(run: Run, path: Path) -> None:
    policies = [part for length in (1, 3, 4) for part in ("--policy", f"static:length={length}")]
    common = ["trace", "replay", path, *policies, "--draft-cost", "0.3"]

    def shown(*more: object) -> list[str]:
        done = run(*common, *more, "--json", path.with_suffix(".json"), "--force")
        assert done.exit_code == 0, done.stderr
        names = [line.split()[0] for line in done.stdout.splitlines() if line.startswith(("static", *BOUNDS))]
        rows = json.loads(path.with_suffix(".json").read_text())["rows"]
        assert len(rows) == 8
        assert [row["speedup"] for row in rows[:4]] == sorted((row["speedup"] for row in rows[:4]), reverse=True)
        return names

    every = [f"static:length={length}" for length in (1, 2, 3, 4)]
    assert sorted(shown()[:4]) == every
    assert shown()[4:] == BOUNDS
    assert shown("--sort", "drafted")[:4] == every[::-1]
    cut = shown("--sort", "drafted", "--top", 1)
    assert cut == ["static:length=4", "static:length=2", *BOUNDS]


def test_it_says_how_sure_it_is(run: Run, path: Path) -> None:
    policies = ["--policy", "static:length=1", "--policy", "static:length=1000", "--policy", "static:length=4"]
    done = run("trace", "replay", path, *policies, "--draft-cost", "0.02", "--json", path.with_suffix(".json"))
    rows = {row["policy"]: row for row in json.loads(path.with_suffix(".json").read_text())["rows"]}
    for row in rows.values():
        low, high = row["speedup_interval"]
        assert low <= row["speedup"] <= high
        assert row["of_best_interval"][0] <= row["of_best"] <= row["of_best_interval"][1]
    best = max((row for name, row in rows.items() if name not in BOUNDS), key=lambda row: row["speedup"])
    assert best["of_best_interval"] == [1, 1]
    assert best["like_best"]
    assert rows["static:length=4"]["of_best"] == rows["static:length=1000"]["of_best"], "a rollout has four tokens"
    assert rows["static:length=4"]["like_best"] == rows["static:length=1000"]["like_best"]
    assert not rows["autoregressive"]["like_best"]
    assert rows["autoregressive"]["speedup_interval"] == pytest.approx([1, 1])
    assert "95% intervals by bootstrap over 3 sequences." in done.stdout
    alone = run("trace", "replay", path, *policies, "--draft-cost", "0.02", "--sequences", 1, "--json", "-")
    for row in json.loads(alone.stdout)["rows"]:
        assert (row["speedup_interval"], row["of_best_interval"]) == (None, None)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--policy", "adaedel"], "policy.kind: unknown kind 'adaedel'. Did you mean 'adaedl'?"),
        (
            ["--draft-cost", "0.1,x"],
            "Invalid value for '--draft-cost': '0.1,x' is not a list of numbers like 0.02,0.1.",
        ),
        (["--draft-cost", "-1"], "Invalid value for '--draft-cost': -1 is not a finite number of at least 0."),
        (["--verify-cost", "nan"], "Invalid value for '--verify-cost': nan is not a finite number of at least 0."),
        (["--measured-costs"], "t.parquet: holds no measured times; give --draft-cost and --verify-cost."),
        (["--measured-costs", "--draft-cost", "0"], "Give either --measured-costs or --draft-cost and --verify-cost."),
        (["--sequences", "4"], "--sequences: is 4, and "),
        (["--json", "nowhere/o.json"], "nowhere/o.json: its folder does not exist."),
    ],
)
def test_wrong_input(run: Run, path: Path, arguments: list[str], line: str) -> None:
    done = run("trace", "replay", path, *arguments)
    assert done.exit_code == 2
    assert line in done.stderr
    assert done.stdout == ""


def test_no_trace(run: Run, tmp_path: Path) -> None:
    done = run("trace", "replay", tmp_path / "none.parquet")
    assert done.exit_code == 2
    assert "none.parquet: there is no trace; `stopkit trace record` writes one." in done.stderr


def test_interrupted_it_reports_the_policies_that_are_done(
    run: Run, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay = stopkit.trace.comparison.replay  # type: ignore[attr-defined]

    def stopped(trace: Any, policy: Any, *more: Any) -> Any:
        if policy.kind == "adaedl":
            raise KeyboardInterrupt
        return replay(trace, policy, *more)

    monkeypatch.setattr(stopkit.trace.comparison, "replay", stopped)
    done = run(
        "trace", "replay", path, "--policy", "static", "--policy", "adaedl", "--draft-cost", "0.1", "--json", "-"
    )
    assert done.exit_code == 130
    assert [row["policy"] for row in json.loads(done.stdout)["rows"]] == ["static", *BOUNDS]
