"""`generate --save-state` and `--load-state`: what a policy learned survives a restart."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from stopkit import InputError, load_policy
from stopkit.plugins import registry
from stopkit.state_file import load_state, save_state
from tests.cli.conftest import Run

CPU = torch.device("cpu")
GENERATE = ("generate", "--max-new-tokens", "12", "--temperature", "1")


@pytest.mark.parametrize("kind", registry().policies)
def test_every_state_survives_a_file(kind: str, tmp_path: Path) -> None:
    policy = load_policy(kind)
    state = policy.init(3, CPU)
    save_state(tmp_path / "s.safetensors", policy, state)
    again = load_state(tmp_path / "s.safetensors", policy)
    assert again.matches(state)
    assert str(again) == str(state)


def test_learning_goes_on_where_it_was(run: Run, models: list[str], tmp_path: Path) -> None:
    policy, file = "heuristic:carry_over=true", tmp_path / "s.safetensors"
    command = ("generate", *models, "def f(", "--policy", policy, "--temperature", "1", "--save-state", file)

    def length(*options: object) -> float:
        assert run(*command, *options).exit_code == 0
        return load_state(file, load_policy(policy))["length"].item()

    learned = length("--max-new-tokens", "12")
    assert learned != 5
    assert length("--max-new-tokens", "1", "--load-state", file) == learned  # one token drafts and teaches nothing
    assert length("--max-new-tokens", "1") == 5


def test_batches_hand_on_what_is_shared(run: Run, models: list[str], tmp_path: Path) -> None:
    prompts, file = tmp_path / "p.txt", tmp_path / "s.safetensors"
    prompts.write_text("def f(\nimport os\nclass A\n")
    run(
        *GENERATE,
        *models,
        "--prompt-file",
        str(prompts),
        "--batch-size",
        "2",
        "--policy",
        "bandit",
        "--save-state",
        str(file),
    )
    rounds = load_state(file, load_policy("bandit"))["rounds"].sum().item()
    run(*GENERATE, *models, "class A", "--policy", "bandit", "--save-state", file)
    assert rounds > load_state(file, load_policy("bandit"))["rounds"].sum().item()


def bad_files(folder: Path) -> dict[str, Path]:
    adaedl = load_policy("adaedl")
    save_state(folder / "adaedl", adaedl, adaedl.init(1, CPU))
    save_state(folder / "two", adaedl, adaedl.init(2, CPU))
    save_file({"x": torch.zeros(1)}, folder / "foreign")
    (folder / "broken").write_bytes((folder / "adaedl").read_bytes()[:-4])
    (folder / "text").write_text("hello")
    return {path.name: path for path in folder.iterdir()} | {"none": folder / "none"}


@pytest.mark.parametrize(
    ("name", "policy", "reason"),
    [
        ("none", "adaedl", "cannot be read"),
        ("text", "adaedl", "is not a whole safetensors file"),
        ("broken", "adaedl", "is not a whole safetensors file"),
        ("foreign", "adaedl", "is not the state of a policy"),
        ("adaedl", "bandit", "Bandit() cannot go on from"),
        ("adaedl", "adaedl:carry_over=true", "cannot go on from"),
        ("two", "adaedl", "another number of sequences"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    name: str, policy: str, reason: str, run: Run, models: list[str], tmp_path: Path
) -> None:
    file = bad_files(tmp_path)[name]
    done = run(*GENERATE, *models, "def f(", "--policy", policy, "--load-state", file)
    assert done.exit_code == 2
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_place_that_cannot_be_written_to_is_refused_before_any_work(
    run: Run, models: list[str], tmp_path: Path
) -> None:
    done = run(*GENERATE, *models, "def f(", "--save-state", tmp_path / "no" / "s")
    assert done.exit_code == 2
    assert "its folder does not exist" in done.stderr
    assert done.stdout == ""


def test_what_cannot_be_written_is_an_error_and_leaves_nothing_behind(tmp_path: Path) -> None:
    policy = load_policy("adaedl")
    (tmp_path / "folder").mkdir()
    for place in (tmp_path / "folder", tmp_path / "none" / "s.safetensors"):
        with pytest.raises(InputError, match="cannot be written"):
            save_state(place, policy, policy.init(1, CPU))
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_an_older_file_stays_whole_when_writing_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, file = load_policy("adaedl"), tmp_path / "s.safetensors"
    save_state(file, policy, policy.init(1, CPU))

    def cut_off(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("stopkit.state_file.save_file", cut_off)
    with pytest.raises(InputError, match="No space left on device"):
        save_state(file, policy, policy.init(2, CPU))
    assert load_state(file, policy).matches(policy.init(1, CPU))
    assert [path.name for path in tmp_path.iterdir()] == ["s.safetensors"]
