"""`stopkit compare`: fair turns, the baseline always there, medians with their range, and nothing complete is lost."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import stopkit.compare
from stopkit.statistics import Statistics
from tests.cli.conftest import Run

PROMPTS = ["def add(", "for item", "print("]
POLICIES = ["static:length=2", "max_probability:threshold=0.2"]
NAMES = ["autoregressive", *POLICIES]
Turn = tuple[str, float, int, int]


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[Turn]:
    """Every generation in order: policy, temperature, batch, tokens asked for."""
    seen: list[Turn] = []
    complete = stopkit.compare.complete  # type: ignore[attr-defined]

    def recorded(engine: Any, policy: Any, batch: Any, options: Any, **more: Any) -> Any:
        name = NAMES[0] if policy.kind == "static" and policy.length == 0 else NAMES[1 + (policy.kind != "static")]
        seen.append((name, options.temperature, batch.number, options.max_new_tokens))
        if len(seen) == INTERRUPTED_AT.get("turn"):
            raise KeyboardInterrupt
        return complete(engine, policy, batch, options, **more)

    monkeypatch.setattr("stopkit.compare.complete", recorded)
    return seen


INTERRUPTED_AT: dict[str, int] = {}


@pytest.fixture(autouse=True)
def _uninterrupted() -> Iterator[None]:
    INTERRUPTED_AT.clear()
    yield
    INTERRUPTED_AT.clear()


@pytest.fixture
def arguments(models: list[str], tmp_path: Path) -> list[object]:
    path = tmp_path / "prompts.txt"
    path.write_text("\n".join(PROMPTS))
    policies = [part for policy in POLICIES for part in ("--policy", policy)]
    return ["compare", *models, *policies, "--prompts", path, "--max-new-tokens", 9]


def test_rows(run: Run, arguments: list[object], tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    done = run(*arguments, "--temperature", 0, "--temperature", 0.7, "--repeats", 2, "--json", out)
    assert done.exit_code == 0, done.stderr
    document = json.loads(out.read_text())
    rows = document["rows"]
    assert [row["temperature"] for row in rows] == [0, 0, 0, 0.7, 0.7, 0.7]
    for at in (rows[:3], rows[3:]):
        assert {row["policy"] for row in at} == set(NAMES)
        assert [row["speedup"] for row in at] == sorted((row["speedup"] for row in at), reverse=True)
    for row in rows:
        assert set(row) == set(Statistics().as_dict()) | {
            "policy", "engine", "temperature", "batch_size", "speedup", "speedup_range", "tokens_per_second_range",
            "repeats", "speedup_interval", "of_best", "of_best_interval", "like_best",
        }  # fmt: skip
        assert row["tokens"] == 2 * len(PROMPTS) * 9
        assert row["repeats"] == 2
        for key in ("speedup", "tokens_per_second"):
            low, high = row[f"{key}_range"]
            assert low <= row[key] <= high
    assert all(row["speedup"] == 1 and row["drafted"] == 0 for row in rows if row["policy"] == "autoregressive")
    assert all(row["drafted"] > 0 for row in rows if row["policy"] != "autoregressive")
    assert document["conditions"]["config"]["policy"]["static:length=2"] == {"kind": "static", "length": 2}
    for row in rows:
        assert row["speedup_interval"][0] <= row["speedup_interval"][1]
        assert row["of_best"] <= 1
    assert {row["of_best"] for row in rows if row["like_best"]} >= {1}
    assert all(row["speedup_interval"] == [1, 1] for row in rows if row["policy"] == "autoregressive")
    for word in (
        *NAMES,
        "speed-up",
        "95% intervals by bootstrap over 3 sequences",
        "temperature 0.7",
        "outside the models' forwards",
    ):
        assert word in done.stdout


def test_policies_take_turns(run: Run, arguments: list[object], turns: list[Turn]) -> None:
    run(*arguments, "--temperature", 0.5, "--repeats", 2)
    warm_up, counted = turns[:3], turns[3:]
    assert [turn[0] for turn in warm_up] == NAMES
    assert all(turn[3] == 8 for turn in warm_up)
    assert all(turn[3] == 9 for turn in counted)
    groups = [counted[start : start + 3] for start in range(0, len(counted), 3)]
    assert [group[0][2] for group in groups] == [0, 1, 2] * 2
    for group in groups:
        assert {turn[0] for turn in group} == set(NAMES)
        assert len({turn[1:] for turn in group}) == 1
    firsts = [group[0][0] for group in groups]
    assert {name: firsts.count(name) for name in NAMES} == dict.fromkeys(NAMES, 2)


def test_batches(run: Run, arguments: list[object], turns: list[Turn]) -> None:
    done = run(*arguments, "--temperature", 0.5, "--repeats", 1, "--batch-size", 2, "--json", "-")
    assert [turn[2] for turn in turns[3:]] == [0, 0, 0, 1, 1, 1]
    assert {row["batch_size"] for row in json.loads(done.stdout)["rows"]} == {2}


def test_every_policy_meets_the_same_seeds(run: Run, arguments: list[object], tmp_path: Path) -> None:
    greedy = json.loads(run(*arguments, "--temperature", 0, "--repeats", 1, "--json", "-").stdout)["rows"]
    assert len({row["tokens"] for row in greedy}) == 1
    again = json.loads(run(*arguments, "--temperature", 0, "--repeats", 1, "--json", "-").stdout)["rows"]
    counts = ("tokens", "rounds", "drafted", "accepted", "draft_forwards", "target_forwards")
    first, second = ({row["policy"]: [row[key] for key in counts] for row in rows} for rows in (greedy, again))
    assert first == second  # whichever was the faster


def test_without_policies_it_takes_the_config_s_or_four(run: Run, models: list[str], tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    config.write_text('[policy]\nkind = "static"\nlength = 2\n')
    common = ("compare", *models, "--temperature", 0, "--repeats", 1, "--max-new-tokens", 2, "--json", "-")
    done = json.loads(run(*common, "--config", config).stdout)
    assert {row["policy"] for row in done["rows"]} == {"autoregressive", str(config), "static:length=2"}
    assert done["conditions"]["config"]["prompts"] == 4
    names = [row["policy"] for row in json.loads(run(*common).stdout)["rows"]]
    assert sorted(names) == [
        "adaedl",
        "autoregressive",
        "goodput",
        "max_probability",
        "static",
        "static:length=2",
    ]


def test_only_the_best_are_shown_and_the_controls(run: Run, arguments: list[object], tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    more = ["--policy", "static:length=3", "--policy", "static:length=4", "--top", 1, "--sort", "drafted"]
    done = run(*arguments, *more, "--temperature", 0, "--repeats", 1, "--json", out)
    assert done.exit_code == 0, done.stderr
    shown = [line.split()[0] for line in done.stdout.splitlines() if line.startswith(("static", "auto", "max_"))]
    assert shown == ["static:length=4", "static:length=2", "autoregressive"]
    assert len(json.loads(out.read_text())["rows"]) == 5


def test_the_baseline_is_there_once(run: Run, models: list[str], arguments: list[object]) -> None:
    done = run(*arguments, "--policy", "autoregressive", "--temperature", 0, "--repeats", 1, "--json", "-")
    assert sorted(row["policy"] for row in json.loads(done.stdout)["rows"]) == sorted(NAMES)


def test_interrupted_it_reports_the_complete_repeats(
    run: Run, arguments: list[object], turns: list[Turn], tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    INTERRUPTED_AT["turn"] = 3 + 2 * 9 + 4
    done = run(*arguments, "--temperature", 0, "--repeats", 5, "--json", out)
    assert done.exit_code == 130
    assert done.stderr.split("\n")[-2] == "error: interrupted."
    assert "Repeats: 2" in done.stdout
    assert {row["repeats"] for row in json.loads(out.read_text())["rows"]} == {2}


def test_interrupted_in_the_first_repeat_there_is_nothing_to_report(
    run: Run, arguments: list[object], turns: list[Turn], tmp_path: Path
) -> None:
    INTERRUPTED_AT["turn"] = 5
    done = run(*arguments, "--json", tmp_path / "out.json")
    assert done.exit_code == 130
    assert done.stdout == ""
    assert not (tmp_path / "out.json").exists()
