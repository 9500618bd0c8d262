"""The same command gives the same text; what the model asks for is done and said; own models are tried."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig, PreTrainedTokenizerFast, RwkvConfig, RwkvForCausalLM

from tests.cli.conftest import Run, save_model

LONG = ("--max-new-tokens", 40)


def row(run: Run, *arguments: object) -> dict[str, Any]:
    done = run("generate", *arguments, "--json", "-")
    assert done.exit_code == 0, done.output
    (only,) = json.loads(done.stdout)["rows"]
    return dict(only)


def test_a_seed_gives_one_text_though_the_policy_weighs_costs(run: Run, models: list[str]) -> None:
    drawn = [row(run, "def", *models, *LONG, "--seed", 7, "--policy", "goodput") for _ in range(3)]
    assert len({each["text"] for each in drawn}) == 1
    assert len({(each["rounds"], each["drafted"]) for each in drawn}) == 1


def test_what_costs_are_told_is_said(run: Run, models: list[str]) -> None:
    said = "costs: fixed, a draft step at 0.1 of a target step"
    for arguments, fixed in (
        (["--seed", 7], True),
        ([], False),
        (["--costs", "fixed"], True),
        (["--seed", 7, "--costs", "measured"], False),
        (["--seed", 7, "--coupling", "invariant"], False),
    ):
        done = run("generate", "def", *models, "--max-new-tokens", 2, *arguments)
        assert done.exit_code == 0
        assert (said in done.stderr) == fixed


def test_costs_of_a_config_stay(run: Run, models: list[str], tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("[engine.costs]\ndraft_step = 0.5\nverify = 2\n")
    path = tmp_path / "r.json"
    done = run("generate", "def", *models, "--config", config, "--seed", 7, "--max-new-tokens", 2, "--json", path)
    assert done.exit_code == 0
    costs = json.loads(path.read_text())["conditions"]["config"]["engine"]["costs"]
    assert (costs["draft_step"], costs["verify"]) == (0.5, 2)


def test_the_invariant_coupling_gives_one_text_whatever_drafts(run: Run, models: list[str]) -> None:
    options = ("--seed", 7, "--coupling", "invariant", "--temperature", 1)
    policies = ("autoregressive", "static:length=4", "adaedl", "goodput")
    texts = {row(run, "def", *models, *LONG, *options, "--policy", policy)["text"] for policy in policies}
    assert len(texts) == 1
    other = row(run, "def", *models, *LONG, *options[2:], "--seed", 8, "--policy", "static")
    assert other["text"] not in texts


@pytest.fixture
def asking(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A model with wishes of its own."""
    place = save_model(tmp_path / "asking", tokenizer, seed=0)
    wishes = GenerationConfig(do_sample=True, temperature=0.5, top_p=0.8, repetition_penalty=1.5, num_beams=3)
    wishes.save_pretrained(place)
    return place


def test_the_models_wishes_are_done_or_said(run: Run, asking: Path) -> None:
    done = run("generate", "def", "--target", asking, "--draft", asking, "--max-new-tokens", 4)
    assert done.exit_code == 0, done.output
    assert "applied, as the target's generation config asks: RepetitionPenaltyLogitsProcessor" in done.stderr
    assert "not done, though the target's generation config asks for it: num_beams = 3" in done.stderr
    only = row(run, "def", "--target", asking, "--draft", asking, "--max-new-tokens", 4, "--sampling", "model")
    assert only["sampling"] == {"temperature": 0.5, "top_p": 0.8, "top_k": 50}
    assert only["processors"] == ["RepetitionPenaltyLogitsProcessor"]
    assert only["undone"] == ["num_beams = 3"]


def test_prompt_files_of_every_kind(run: Run, models: list[str], tmp_path: Path, tokenizer: Any) -> None:
    path, out = tmp_path / "p.jsonl", tmp_path / "r.json"
    ids = tokenizer("def")["input_ids"]
    path.write_text(json.dumps({"prompt": "def"}) + "\n" + json.dumps({"token_ids": ids}) + "\n")
    done = run("generate", "--prompt-file", path, *models, "--temperature", 0, "--max-new-tokens", 6, "--json", out)
    assert done.exit_code == 0, done.output
    text, same = json.loads(out.read_text())["rows"]
    assert text["token_ids"] == same["token_ids"]
    for line, message in (
        ({"messages": [{"role": "user", "content": "x"}]}, f"{path}:1: is chat messages, and the target's tokenizer"),
        ({"token_ids": [1, 2.5]}, f"{path}:1[1]: 2.5 is no token id"),
        ({"token_ids": [9999]}, f"{path}:1: token 9999 is not in the vocabulary"),
        ({"prompt": "x", "token_ids": [1]}, f"{path}:1: has prompt and token_ids"),
    ):
        path.write_text(json.dumps(line) + "\n")
        done = run("generate", "--prompt-file", path, *models)
        assert done.exit_code == 2
        assert message in done.stderr


def test_own_models_are_tried(run: Run, pair: Path, tmp_path: Path, tokenizer: Any) -> None:
    done = run("check", "eager", "--target", pair / "target", "--draft", pair / "draft", "--json", tmp_path / "r.json")
    assert done.exit_code == 0, done.output
    rows = json.loads((tmp_path / "r.json").read_text())["rows"]
    assert [each["way"] for each in rows] == ["ragged rows"] * 2
    sizes: dict[str, Any] = {"hidden_size": 16, "attention_hidden_size": 16, "num_hidden_layers": 2}
    RwkvForCausalLM(RwkvConfig(vocab_size=300, **sizes)).save_pretrained(tmp_path / "rwkv")
    tokenizer.save_pretrained(tmp_path / "rwkv")
    done = run("check", "eager", "--target", tmp_path / "rwkv", "--draft", tmp_path / "rwkv")
    assert done.exit_code == 2
    assert "engine.target: this rwkv model (RwkvForCausalLM)" in done.stderr
    assert done.stderr.count("\n") == 1
