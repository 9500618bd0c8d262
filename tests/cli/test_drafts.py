"""Ways to draft that are no model of their own, on the command line: wherever a draft is named."""

import json
from pathlib import Path
from typing import Any

import pytest

from stopkit.pair.tokenizer import train_tokenizer
from stopkit.trace.files import read_metadata
from stopkit_engines.hf import gguf
from tests.cli.conftest import CONTEXT, Run, save_model

GREEDY = ("--temperature", 0, "--max-new-tokens", 12)
DRAFTS = {
    "prompt_lookup": {"kind": "prompt_lookup", "longest": 3, "most": 10},
    "prompt_lookup:": {"kind": "prompt_lookup", "longest": 3, "most": 10},
    "prompt_lookup:longest=2,most=5": {"kind": "prompt_lookup", "longest": 2, "most": 5},
    "early_exit:layers=1": {"kind": "early_exit", "layers": 1},
}


def prompts(folder: Path) -> Path:
    """A file with a prompt."""
    file = folder / "prompts.txt"
    file.write_text("for item")
    return file


@pytest.mark.parametrize("draft", DRAFTS)
def test_generate(run: Run, pair: Path, tmp_path: Path, draft: str) -> None:
    target, file = ("--target", pair / "target"), tmp_path / "done.json"
    options = (*target, "--policy", "static:length=3", *GREEDY)
    by_model = ("--draft", pair / "draft", "--policy", "autoregressive")
    wanted = run("generate", "for item in items: for", *target, *by_model, *GREEDY)
    done = run("generate", "for item in items: for", *options, "--draft", draft, "--json", file)
    assert done.exit_code == 0, done.stderr
    assert done.stdout == wanted.stdout
    written = json.loads(file.read_text())
    assert written["conditions"]["config"]["engine"]["draft"] == DRAFTS[draft]
    assert written["rows"][0]["drafted"] > 0


def test_a_draft_with_another_tokenizer(run: Run, pair: Path, tmp_path: Path) -> None:
    other = save_model(tmp_path / "other", train_tokenizer(["def something else entirely"], 280, CONTEXT), seed=0)
    options = ("for item", "--target", pair / "target", *GREEDY)
    wanted = run("generate", *options, "--draft", pair / "draft", "--policy", "autoregressive")
    done = run("generate", *options, "--draft", other, "--policy", "static:length=3")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == wanted.stdout
    assert "drafted)" in done.stderr


def test_compare_and_bench(run: Run, pair: Path, tmp_path: Path) -> None:
    file, options = tmp_path / "rows.json", ("--target", pair / "target", "--draft", "early_exit:layers=1")
    policy = ("--policy", "static:length=2", "--max-new-tokens", 4)
    once = ("--prompts", prompts(tmp_path), "--repeats", 1, "--temperature", 0)
    done = run("compare", *options, *policy, *once, "--json", file)
    assert done.exit_code == 0, done.stderr
    assert any(row["drafted"] for row in json.loads(file.read_text())["rows"])
    once = ("--prompts", 1, "--repeats", 1, "--dtype", "float32", "--temperature", 0)
    done = run("bench", *options, *policy, *once, "--engine", "eager", "--no-peers", "--json", file, "--force")
    assert done.exit_code == 0, done.stderr
    assert [row["drafted"] > 0 for row in json.loads(file.read_text())["rows"]] == [False, True]


def test_check_and_record(run: Run, pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--target", pair / "target", "--draft", "early_exit:layers=1")
    done = run("check", "eager", *options)
    assert "draft: early_exit:layers=1" in done.stdout, done.output
    monkeypatch.setattr("stopkit_engines.hf.timing.REPEATS", 1)
    asked = ("--prompts", prompts(tmp_path), "--max-new-tokens", 3, "--max-draft", 2, "--out", tmp_path / "t.parquet")
    done = run("trace", "record", *options, *asked)
    assert done.exit_code == 0, done.output
    assert read_metadata(tmp_path / "t.parquet").draft["name"] == "early_exit:layers=1"


WRONG = {
    "promt_lookup": "engine.draft: no draft is called 'promt_lookup'. Did you mean 'prompt_lookup'?",
    "early-exit:layers=2": "engine.draft: no draft is called 'early-exit'. Did you mean 'early_exit'?",
    "early_exit": "engine.draft.layers: this field is required.",
    "early_exit:layers=2": "engine.draft.layers: got 2, and the target has 2 layers, at most 1 can draft.",
    "prompt_lookup:longst=2": "engine.draft.longst: unknown field. Did you mean 'longest'?",
    "nowhere": "engine.draft: nowhere: is no folder here, and as a hub id cannot be loaded",
    "./nowhere": "engine.draft: ./nowhere: no such folder; give a model's folder, a GGUF file, a hub id",
}


@pytest.mark.parametrize("draft", WRONG)
def test_what_is_wrong_is_said_in_a_line(run: Run, pair: Path, draft: str) -> None:
    done = run("generate", "x", "--target", pair / "target", "--draft", draft)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: {WRONG[draft]}")
    assert done.stderr.count("\n") == 1


def test_llama_cpp_runs_no_part_of_a_model(run: Run) -> None:
    done = run("generate", "x", "--engine", "llamacpp", "--draft", "early_exit:layers=2")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(
        "error: engine.draft: llama.cpp runs no part of a model; use a model or prompt_lookup"
    )


def test_a_folder_of_that_name(
    run: Run, pair: Path, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "early_exit", tokenizer, seed=0)
    asked = ("generate", "x", "--target", pair / "target", *GREEDY, "--draft")
    refused = run(*asked, "early_exit")
    assert refused.exit_code == 2
    assert "write ./early_exit for that, or early_exit: for the way to draft" in refused.stderr
    assert run(*asked, "./early_exit").exit_code == 0
    assert run(*asked, "early_exit:layers=1").exit_code == 0


def test_a_gguf_file_that_is_none_or_for_which_a_package_is_missing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "model.gguf"
    done = run("generate", "x", "--target", file)
    assert (done.exit_code, done.stderr) == (
        2,
        f"error: engine.target: {file}: cannot be read: No such file or directory.\n",
    )
    file.write_bytes(b"PK\3\4")
    assert f"engine.target: {file}: is no GGUF file" in run("generate", "x", "--target", file).stderr
    file.write_bytes(b"GGUF")
    monkeypatch.setattr(gguf, "find_spec", lambda name: None)
    done = run("generate", "x", "--target", file)
    assert done.exit_code == 2
    assert "packages that are not installed, gguf and accelerate: pip install 'stopkit[gguf]'" in done.stderr
