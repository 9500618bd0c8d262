"""Models on disk that are damaged, foreign or of another kind: exit code 2, one line, and nothing of them is run."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import T5Config

from tests.cli.conftest import Run


def _encoder_decoder(place: Path) -> None:
    T5Config(d_model=16, num_layers=1, num_heads=2, d_ff=16, d_kv=8, vocab_size=300).save_pretrained(place)


def _without_a_weight(place: Path) -> None:
    weights = load_file(place / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, place / "model.safetensors", metadata={"format": "pt"})


def _with_a_foreign_weight(place: Path) -> None:
    weights = load_file(place / "model.safetensors")
    save_file(weights | {"extra": torch.zeros(2)}, place / "model.safetensors", metadata={"format": "pt"})


def _with_a_renamed_weight(place: Path) -> None:
    weights = load_file(place / "model.safetensors")
    weights["model.norm.scale"] = weights.pop("model.norm.weight")
    save_file(weights, place / "model.safetensors", metadata={"format": "pt"})


def _with_a_weight_of_another_shape(place: Path) -> None:
    weights = load_file(place / "model.safetensors")
    weights["model.norm.weight"] = torch.ones(3)
    save_file(weights, place / "model.safetensors", metadata={"format": "pt"})


def _cut_off(name: str) -> Callable[[Path], None]:
    def cut(place: Path) -> None:
        content = (place / name).read_bytes()
        (place / name).write_bytes(content[: len(content) // 2])

    return cut


def _emptied(name: str) -> Callable[[Path], None]:
    return lambda place: (place / name).write_bytes(b"")  # type: ignore[return-value]


def _foreign_code(place: Path) -> None:
    config = json.loads((place / "config.json").read_text())
    config |= {
        "model_type": "somebody_elses",
        "auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.M"},
    }
    (place / "config.json").write_text(json.dumps(config))
    (place / "code.py").write_text("raise SystemExit('foreign code ran')")


def _foreign_tokenizer(place: Path) -> None:
    config = json.loads((place / "tokenizer_config.json").read_text())
    config |= {"tokenizer_class": "Foreign", "auto_map": {"AutoTokenizer": ["code.Tokenizer", None]}}
    (place / "tokenizer_config.json").write_text(json.dumps(config))
    (place / "code.py").write_text("import pathlib; pathlib.Path(__file__).with_name('ran').touch()")


DAMAGES: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "an encoder-decoder": (_encoder_decoder, ("a t5 model is no causal language model",)),
    "a weight is missing": (_without_a_weight, ("lacks model.norm.weight",)),
    "a weight is foreign": (_with_a_foreign_weight, ("does not know: extra",)),
    "a weight is renamed": (_with_a_renamed_weight, ("lacks model.norm.weight", "does not know: model.norm.scale")),
    "a weight has another shape": (_with_a_weight_of_another_shape, ("model.norm.weight",)),
    "weights are cut off": (_cut_off("model.safetensors"), ("model.safetensors",)),
    "weights are empty": (_emptied("model.safetensors"), ("model.safetensors",)),
    "the config is cut off": (_cut_off("config.json"), ("config.json",)),
    "the config is empty": (_emptied("config.json"), ("config.json",)),
    "the tokenizer is cut off": (_cut_off("tokenizer.json"), ("tokenizer.json",)),
    "it brings code": (_foreign_code, ("engine.target",)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_model_that_is_damaged_or_foreign(run: Run, pair: Path, tmp_path: Path, damage: str) -> None:
    place = tmp_path / "model"
    shutil.copytree(pair / "target", place)
    spoil, words = DAMAGES[damage]
    spoil(place)
    done = run("generate", "x", "--target", place, "--draft", pair / "draft", "--max-new-tokens", 2)
    assert done.exit_code == 2
    assert done.stdout == ""
    line, *more = done.stderr.strip().splitlines()
    assert more == [], done.stderr
    assert line.startswith("error: engine.target")
    assert len(line) < 600
    for word in words:
        assert word in line


FILES = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("seed", range(3))
def test_random_damage_is_said_in_one_line_or_does_not_matter(
    run: Run, pair: Path, tmp_path: Path, name: str, seed: int
) -> None:
    place = tmp_path / "model"
    shutil.copytree(pair / "target", place)
    chance, content = random.Random(seed), bytearray((place / name).read_bytes())
    reach = 8 + int.from_bytes(content[:8], "little") if name.endswith("tensors") else len(content)
    for at in chance.sample(range(reach), 8):
        content[at] = chance.randrange(256)
    (place / name).write_bytes(content)
    done = run("generate", "x", "--target", place, "--draft", pair / "draft", "--max-new-tokens", 2)
    assert done.exit_code in (0, 2), done.output
    if done.exit_code == 2:
        (line,) = done.stderr.strip().splitlines()
        assert str(place) in line


def test_no_code_of_a_tokenizer_runs(run: Run, pair: Path, tmp_path: Path) -> None:
    place = tmp_path / "model"
    shutil.copytree(pair / "target", place)
    _foreign_tokenizer(place)
    done = run("generate", "x", "--target", place, "--draft", pair / "draft", "--max-new-tokens", 2)
    assert done.exit_code in (0, 2), done.output  # transformers may fall back on its own class
    assert "Do you wish to run" not in done.output
    assert not (place / "ran").exists()
