"""Bad input: exit code 2, and one clear line that names the place and the remedy."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

from tests.cli.conftest import CONTEXT, Run


def refused(run: Run, arguments: Sequence[object], *parts: str) -> None:
    """Run, and find `parts` in the one line on standard error."""
    done = run(*arguments)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for part in parts:
        assert part in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("policy", "parts"),
    [
        ("adaedle", ("policy.kind", "unknown kind 'adaedle'", "Did you mean 'adaedl'?", "static")),
        ("os.system", ("policy.kind", "unknown kind 'os.system'", "There is: ")),
        ("adaedl:treshold=0.5", ("policy.treshold", "unknown field", "Did you mean 'threshold'?")),
        ("adaedl:threshold=1.5", ("policy.threshold", "less than or equal to 1", "got 1.5")),
        ("adaedl:threshold=high", ("policy.threshold", "valid number", "got 'high'")),
        ("adaedl:threshold", ("'threshold'", "has no value", "KIND:field=value")),
        ("no-such.toml", ("no-such.toml: cannot be read", "No such file")),
    ],
)
def test_policies(run: Run, policy: str, parts: tuple[str, ...]) -> None:
    refused(run, ["generate", "x", "--policy", policy], *parts)
    refused(run, ["compare", "--policy", policy], *parts)


CONFIGS = {
    "unknown-kind.toml": ('[policy]\nkind = "statik"', "policy.kind: unknown kind 'statik'", "Did you mean 'static'?"),
    "python-path.toml": ('[policy]\nkind = "my.module:Policy"', "policy.kind: unknown kind 'my.module:Policy'"),
    "python-path.yaml": ("policy: !!python/object/apply:os.system ['true']", "is not valid YAML"),
    "engine.toml": ('[engine]\nkind = "eagre"', "engine.kind: unknown kind 'eagre'", "Did you mean 'eager'?"),
    "field.toml": ('[policy]\nkind = "adaedl"\ngama = 0.1', "policy.gama: unknown field", "Did you mean 'gamma'?"),
    "nested.json": (
        '{"policy": {"kind": "adaedl", "controller": {"alpha": 2}}}',
        "policy.controller.alpha: input should be less than or equal to 1; got 2",
    ),
    "section.toml": ("[polcy]\n", "polcy: unknown section", "Did you mean 'policy'?"),
    "table.yaml": ("engine: eager", "engine: must be a table"),
    "temperature.toml": ("[generation]\ntemperature = nan", "generation.temperature: input should be a finite number"),
    "device.yaml": ("engine: {kind: eager, device: tpu}", "engine.device: must be auto, or a device of torch"),
    "broken.toml": ("[policy\nkind=", "is not valid TOML", "line 1"),
    "broken.json": ('{"policy": ', "is not valid JSON", "line 1"),
    "broken.yaml": ("policy: [1, 2", "is not valid YAML", "line 1"),
    "list.json": ("[1]", "must be a table"),
    "config.ini": ("[policy]", "a config ends in .toml, .json, .yaml, .yml"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_configs(run: Run, tmp_path: Path, name: str) -> None:
    text, *parts = CONFIGS[name]
    path = tmp_path / name
    path.write_text(text)
    refused(run, ["generate", "x", "--config", path], str(path), *parts)


def test_configs_that_cannot_be_read(run: Run, tmp_path: Path) -> None:
    missing, binary = tmp_path / "missing.toml", tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    refused(run, ["generate", "x", "--config", missing], f"{missing}: cannot be read: No such file")
    refused(run, ["compare", "--config", binary], f"{binary}: is not UTF-8")


def test_every_mistake_has_a_line(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "two.toml"
    path.write_text('[policy]\nkind = "adaedl"\ngamma = -1\nmax_draft = "many"')
    done = run("generate", "x", "--config", path)
    assert done.exit_code == 2
    assert [line.split(": ")[:3] for line in done.stderr.splitlines()] == [
        ["error", str(path), "policy.max_draft"],
        ["error", str(path), "policy.gamma"],
    ]


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--temperature", "-0.5"], ("generation.temperature", "greater than or equal to 0", "got -0.5")),
        (["--temperature", "nan"], ("generation.temperature", "finite")),
        (["--temperature", "warm"], ("--temperature", "'warm' is not a valid float")),
        (["--max-new-tokens", "0"], ("generation.max_new_tokens", "greater than or equal to 1")),
        (["--top-p", "1.5"], ("generation.top_p", "less than or equal to 1")),
        (["--seed", "-1"], ("generation.seed", "greater than or equal to 0")),
        (["--batch-size", "0"], ("--batch-size", "0 is not in the range")),
        (["--device", "tpu"], ("engine.device: must be auto, or a device of torch", "got 'tpu'")),
        (["--engine", "eagle"], ("engine.kind: unknown kind 'eagle'", "Did you mean 'eager'?")),
    ],
)
def test_options(run: Run, options: list[str], parts: tuple[str, ...]) -> None:
    refused(run, ["generate", "x", *options], *parts)


def test_compare_refuses_temperatures_likewise(run: Run, models: list[str]) -> None:
    refused(run, ["compare", *models, "--temperature", "-1"], "generation.temperature", "got -1.0")


def test_an_option_is_not_blamed_on_the_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "good.toml"
    path.write_text("[generation]\ntemperature = 0.5")
    done = run("generate", "x", "--config", path, "--temperature", "-1")
    assert str(path) not in done.stderr


PROMPT_FILES: dict[str, tuple[bytes, str, str]] = {
    "empty.txt": (b"", "", "is empty; write at least one prompt"),
    "blank.txt": (b"one\n\nthree\n", ":2", "the prompt is empty"),
    "latin.txt": (b"one\ncaf\xe9\n", ":2", "is not UTF-8"),
    "empty.jsonl": (b"", "", "is empty"),
    "blank.jsonl": (b'{"prompt": "a"}\n{"prompt": ""}\n', ":2", "the prompt is empty"),
    "field.jsonl": (b'{"prompt": "a"}\n{"text": "b"}\n', ":2", "has no prompt"),
    "number.jsonl": (b'{"prompt": 3}\n', ":1", "has no prompt"),
    "broken.jsonl": (b'{"prompt": "a"}\n{"prompt": \n', ":2", "is not JSON"),
    "prompts.csv": (b"a,b\n", "", "a prompt file ends in .jsonl or .txt"),
}


@pytest.mark.parametrize("name", PROMPT_FILES)
def test_prompt_files(run: Run, models: list[str], tmp_path: Path, name: str) -> None:
    content, line, message = PROMPT_FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    refused(run, ["generate", *models, "--prompt-file", path], f"{path}{line}: {message}")
    refused(run, ["compare", *models, "--prompts", path], f"{path}{line}: {message}")


def test_prompts(run: Run, models: list[str], tmp_path: Path) -> None:
    refused(run, ["generate", "", *models], "PROMPT: is empty")
    refused(run, ["generate", "x" * 1000, *models], "PROMPT: has 1000 tokens", f"context is {CONTEXT}", "at most 767")
    refused(run, ["generate", "--prompt-file", tmp_path / "none.txt"], "none.txt: cannot be read: No such file")


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_a_long_prompt_of_a_file_is_named_by_its_line(
    run: Run, models: list[str], tmp_path: Path, batch_size: int
) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text(f"one\ntwo\n{'x' * 1000}\n")
    for command in (["generate", "--prompt-file", path], ["compare", "--prompts", path]):
        done = run(*command, *models, "--max-new-tokens", 2, "--batch-size", batch_size)
        assert done.exit_code == 2
        assert f"error: {path}:3: has 1000 tokens" in done.stderr


def test_pickled_weights(run: Run, pair: Path, tmp_path: Path) -> None:
    shutil.copy(pair / "target" / "config.json", tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    refused(
        run, ["generate", "x", "--target", tmp_path], "engine.target", "pytorch_model.bin", "pickled", "save_pretrained"
    )


def test_a_folder_without_a_model(run: Run, tmp_path: Path) -> None:
    refused(run, ["generate", "x", "--target", tmp_path], "engine.target", "has no config.json")
    refused(run, ["generate", "x", "--draft", "./nowhere"], "engine.draft: ./nowhere: no such folder")
    refused(run, ["generate", "x", "--draft", "models/no/where"], "engine.draft: models/no/where: no such folder")
    refused(run, ["generate", "x", "--target", "bundled:drafft"], "engine.target: bundled:drafft", "bundled:draft")


@pytest.mark.parametrize("name", ["gpt2", "some/model"])
def test_a_hub_id_that_cannot_be_reached(run: Run, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused(run, ["generate", "x", "--target", name], f"engine.target: {name}: is no folder here, and as a hub id")


def test_a_window_is_served(run: Run, tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    config = MistralConfig(
        vocab_size=300,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        sliding_window=8,
    )
    MistralForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    done = run("generate", "x" * 20, "--target", tmp_path, "--draft", tmp_path, "--max-new-tokens", 12)
    assert done.exit_code == 0, done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_no_cuda(run: Run, models: list[str]) -> None:
    refused(run, ["generate", "x", *models, "--device", "cuda"], "engine.device", "no CUDA device", "use cpu or auto")
