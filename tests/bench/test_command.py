"""`stopkit bench` on a tiny pair: transformers and our engines on the same prompts."""

import json
from pathlib import Path

import pytest
import torch

from stopkit.statistics import Statistics
from stopkit_engines.bench.contestants import ASSISTED, PEER, PLAIN
from tests.cli.conftest import Run, models, pair, run, tokenizer

__all__ = ["models", "pair", "run", "tokenizer"]
SMALL = ("--dtype", "float32", "--prompts", 2, "--max-new-tokens", 6, "--repeats", 1)
FIELDS = {
    "engine",
    "policy",
    "dtype",
    "temperature",
    "batch_size",
    "speedup",
    "against_assisted",
    "acceptance_length",
    "accepted_given_all_before",
    "time_to_first_token",
    "time_per_output_token",
    "peak_memory",
    "outside_forwards",
    "equal_rows",
}


def test_bench(run: Run, models: list[str], tmp_path: Path) -> None:
    out, picture = tmp_path / "bench.json", tmp_path / "bench.svg"
    chosen = ("--engine", "eager", "--policy", "static:length=2", "--temperature", 0, "--temperature", 0.7)
    done = run("bench", *models, *chosen, *SMALL, "--json", out, "--plot", picture)
    assert done.exit_code == 0, done.stderr
    found = json.loads(out.read_text())
    names = [
        (PEER, PLAIN),
        *((PEER, name) for name in ASSISTED),
        ("eager", "autoregressive"),
        ("eager", "static:length=2"),
    ]
    assert [(row["engine"], row["policy"]) for row in found["rows"]] == names * 2
    assert all(row.keys() >= FIELDS | set(Statistics().as_dict()) for row in found["rows"])
    assert [row["equal_rows"] for row in found["rows"]] == [1.0] * len(names) + [None] * len(names)
    assert found["conditions"]["config"]["repeats"] == 1
    assert picture.read_text().count("<rect") == 2 * len(names)
    assert "assisted:heuristic" in done.stdout


def test_in_a_batch_transformers_runs_plain_only(run: Run, models: list[str], tmp_path: Path) -> None:
    chosen = ("--engine", "eager", "--policy", "adaedl", "--temperature", 0, "--batch-size", 2, "--prompt-tokens", 30)
    done = run("bench", *models, *chosen, *SMALL, "--json", tmp_path / "b.json")
    assert done.exit_code == 0, done.stderr
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert [row["policy"] for row in rows] == [PLAIN, "autoregressive", "adaedl"]
    assert {(row["batch_size"], row["prompt_tokens"], row["equal_rows"]) for row in rows} == {(2, 30, 1.0)}


def test_prompts_that_are_too_long_are_told_of_and_the_rest_is_measured(
    run: Run, models: list[str], tmp_path: Path
) -> None:
    lengths = ("--prompt-tokens", 20, "--prompt-tokens", 768, "--no-peers")
    chosen = ("--engine", "eager", "--policy", "adaedl", "--temperature", 0, *lengths)
    done = run("bench", *models, *chosen, *SMALL, "--json", tmp_path / "b.json")
    assert done.exit_code == 0, done.stderr
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert ["error" in row for row in rows] == [False, False, True, True]
    assert "768" in done.stderr


def test_another_file_is_not_written_over(run: Run, models: list[str], tmp_path: Path) -> None:
    (tmp_path / "mine.svg").write_text("<svg>mine</svg>")
    done = run("bench", *models, *SMALL, "--plot", tmp_path / "mine.svg")
    assert done.exit_code == 2
    assert (tmp_path / "mine.svg").read_text() == "<svg>mine</svg>"


@pytest.mark.parametrize("wrong", [("--policy", "adadel"), ("--engine", "eagre"), ("--target", "nowhere/at/all")])
def test_bad_input_is_a_line(run: Run, wrong: tuple[str, str]) -> None:
    done = run("bench", *SMALL, *wrong)
    assert done.exit_code == 2
    assert wrong[1] in done.stderr
    assert "Traceback" not in done.stderr


def test_threads_are_in_the_conditions(run: Run, models: list[str], tmp_path: Path) -> None:
    chosen = ("--engine", "eager", "--policy", "adaedl", "--temperature", 0, "--no-peers")
    assert run("bench", *models, *chosen, *SMALL, "--json", tmp_path / "b.json").exit_code == 0
    hardware = json.loads((tmp_path / "b.json").read_text())["conditions"]["hardware"]
    assert hardware["threads"] == torch.get_num_threads()
