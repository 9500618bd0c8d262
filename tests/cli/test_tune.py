"""`stopkit tune`: a search that finds what is there to find, judged by sequences it has not seen, resumable."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

import stopkit
import stopkit.trace.tuning
from stopkit.cli.tune import NAMES
from stopkit.trace.costs import cost_grid
from stopkit.trace.servers import SERVERS
from stopkit.trace.space import space
from stopkit.trace.trace import Trace
from stopkit.trace.tuning import Tuning
from tests.cli.conftest import Run
from tests.trace.traces import Start, write

GOOD = [Start(max(0, 15 - start), min(4, max(0, 15 - start)), min(4, max(0, 15 - start))) for start in range(16)]
"""A sequence of which every draft token is accepted: the longer the drafts, the better."""
BASE = "static:length=1"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "t.parquet", [GOOD] * 5)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "tuned.toml"


@pytest.fixture
def arguments(path: Path, out: Path) -> list[object]:
    return ["tune", BASE, "--trace", path, "--out", out, "--draft-cost", "0.1,0.2", "--held-out", 0.4]


def test_the_best_is_found_written_and_judged(run: Run, arguments: list[object], out: Path) -> None:
    done = run(*arguments, "--trials", 12, "--json", out.with_suffix(".json"))
    assert done.exit_code == 0, done.stderr
    tuned = stopkit.load_policy(str(out))
    assert tuned.kind == "static"
    assert tuned.length >= 4  # type: ignore[attr-defined]  # a rollout has four tokens
    assert tomllib.loads(out.read_text()).keys() == {"policy"}
    document = json.loads(out.with_suffix(".json").read_text())
    rows = document["rows"]
    assert [row["policy"] for row in rows[:3]] == [str(out), "static:length=2", BASE]
    assert rows[0]["tokens"] == 2 * 16, "judged by the two sequences held out"
    assert rows[0]["like_best"]
    assert not rows[2]["like_best"]
    assert len(document["conditions"]["config"]["held_out"]) == 2
    after, before = (
        (rows[at]["speedup"] * rows[at + 7]["speedup"]) ** 0.5 for at in (0, 2)
    )  # seven rows for each of two draft costs
    low, high = document["conditions"]["config"]["gain_interval"]
    assert low == pytest.approx(high), "one sequence is like another here"
    assert low == pytest.approx(after / before)
    assert f"Held out, the gain is {low - 1:+.1%} … {high - 1:+.1%} with 95%." in done.stdout
    line = f"2 held-out sequences: speed-up {after:.3f} tuned, {before:.3f} before ({after / before - 1:+.1%})"
    assert line in done.stdout
    assert "3 tuned-on sequences: " in done.stdout
    assert f"Trials: 12. Wrote {out}." in done.stdout


def test_run_again_it_goes_on(run: Run, arguments: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    replay = stopkit.trace.tuning.replay  # type: ignore[attr-defined]

    def counted(part: Trace, policy: Any, costs: Any) -> Any:
        asked.append(policy)
        return replay(part, policy, costs)

    monkeypatch.setattr(stopkit.trace.tuning, "replay", counted)
    reported = 4
    for trials, new in ((3, 3), (5, 2), (5, 0), (2, 0)):
        asked.clear()
        assert run(*arguments, "--trials", trials).exit_code == 0
        assert len(asked) == new + reported


def test_interrupted_nothing_is_lost(
    run: Run, arguments: list[object], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = Tuning.score
    calls: list[int] = []

    def stopped(tuning: Tuning, *rest: Any) -> float:
        calls.append(0)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return score(tuning, *rest)

    monkeypatch.setattr(Tuning, "score", stopped)
    done = run(*arguments, "--trials", 9)
    assert done.exit_code == 130
    assert done.stderr.splitlines()[-1] == "error: interrupted."
    assert stopkit.load_policy(str(out)).kind == "static"
    assert f"Wrote {out}." in done.stdout
    calls.clear()
    calls.extend([0] * 9)
    again = run(*arguments, "--trials", 9)
    assert again.exit_code == 0
    assert len(calls) == 9 + (9 - 3) + 4, "six trials were left, and two policies are judged on two parts"


def test_machines_share_a_study(run: Run, arguments: list[object], tmp_path: Path) -> None:
    shared = ["--storage", f"sqlite:///{tmp_path / 'shared.db'}"]
    assert run(*arguments, "--trials", 3, *shared).exit_code == 0
    done = run(*arguments, "--trials", 4, *shared, "--out", tmp_path / "other.toml")
    assert done.exit_code == 0
    assert "Trials: 4." in done.stdout
    assert not (tmp_path / "tuned.study.db").exists()


def test_another_search_is_another_study(path: Path) -> None:
    trace, policy = Trace.open(path), stopkit.load_policy(BASE)
    made = space(policy)
    names = {
        Tuning(trace, made, cost_grid([0.1], [0.02])).name,
        Tuning(trace, made, cost_grid([0.2], [0.02])).name,
        Tuning(trace, made, cost_grid([0.1], [0.02]), seed=1).name,
        Tuning(trace.shortened(5), made, cost_grid([0.1], [0.02])).name,
        Tuning(trace, space(stopkit.load_policy("static:length=2")), cost_grid([0.1], [0.02])).name,
    }
    assert len(names) == 5
    assert Tuning(Trace.open(path), space(policy), cost_grid([0.1], [0.02])).name in names


def test_parts_share_no_sequence_and_keep_the_order(path: Path) -> None:
    trace = Trace.open(path)
    made = space(stopkit.load_policy(BASE))
    splits = set()
    for seed in range(9):
        tuned_on, judged_by = Tuning(trace, made, (), 0.4, seed).parts
        assert sorted(tuned_on.sequences + judged_by.sequences) == [0, 1, 2, 3, 4]
        assert (len(tuned_on.sequences), len(judged_by.sequences)) == (3, 2)
        assert list(tuned_on.sequences) == sorted(tuned_on.sequences)
        splits.add(judged_by.sequences)
    assert len(splits) > 1


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (["--fields", "lenth"], "--fields: static has no field 'lenth'. Did you mean 'length'?"),
        (["--held-out", "0"], "--held-out: 0 of 5 sequences leaves nothing to tune on or nothing to judge by."),
        (["--held-out", "1"], "--held-out: 1 of 5 sequences leaves nothing to tune on or nothing to judge by."),
        (["--storage", "nosuch://x"], "--storage: 'nosuch://x' cannot be opened: "),
        (["--out", "tuned.json"], "tuned.json: a config file in TOML ends in .toml."),
        (["--out", "nowhere/tuned.toml"], "nowhere/tuned.toml: its folder does not exist."),
        (["--measured-costs"], "Give either --measured-costs or --draft-cost and --verify-cost."),
        (["--workers", "2"], "--workers goes with --ray."),
        (["--trials", "0"], "Invalid value for '--trials'"),
    ],
)
def test_wrong_input(run: Run, arguments: list[object], out: Path, wrong: list[str], line: str) -> None:
    done = run(*arguments, *wrong)
    assert done.exit_code == 2
    assert line in done.stderr
    assert done.stdout == ""
    assert not out.exists()


def test_kinds_that_cannot_be_tuned(run: Run, arguments: list[object]) -> None:
    for kind, line in {
        "static2": "policy.kind: unknown kind 'static2'. Did you mean 'static'?",
        "batch_table": "policy 'batch_table': has no field to search.",
    }.items():
        done = run("tune", kind, *arguments[2:])
        assert done.exit_code == 2
        assert line in done.stderr


def test_settings_of_servers(run: Run, arguments: list[object], out: Path) -> None:
    assert set(NAMES) == set(SERVERS)
    asked = [part for name in NAMES for part in ("--for", name)]
    done = run(*arguments, "--trials", 3, *asked, "--json", out.with_suffix(".json"))
    assert done.exit_code == 0, done.stderr
    document = json.loads(out.with_suffix(".json").read_text())
    told = document["conditions"]["config"]["servers"]
    assert list(told) == list(NAMES)
    assert {row["policy"] for row in document["rows"]} >= set(NAMES)
    assert told["vllm"]["settings"] == {
        "num_speculative_tokens": 4,
        "num_speculative_tokens_per_batch_size": [[1, 256, 3]],  # 16 tokens take four rounds either way
    }
    steps = told["sglang"]["settings"]["speculative_num_steps"]
    assert told["sglang"]["text"].endswith(f"--speculative-num-draft-tokens {steps + 1}")
    assert "\nThe nearest settings of transformers, for generation_config.json of the draft model:\n" in done.stdout
    for each in told.values():
        assert f"\n{each['text']}\n" in done.stdout
        assert stopkit.load_policy(each["policy"])
    assert told["vllm"]["kept"] == pytest.approx(1)
    low, high = told["vllm"]["kept_interval"]
    assert low == pytest.approx(1) == high
    assert "they keep 100.0% (100.0% … 100.0% with 95%) of what the tuned policy gains" in done.stdout


def test_a_server_that_nobody_knows(run: Run, arguments: list[object]) -> None:
    done = run(*arguments, "--for", "vlm")
    assert done.exit_code == 2
    assert "'vlm' is not one of 'vllm', 'llama.cpp', 'transformers', 'sglang'" in done.stderr
