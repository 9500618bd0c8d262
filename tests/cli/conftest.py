"""A tiny random model pair on disk, and the command line run in this process."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from stopkit.cli import main
from stopkit.pair.tokenizer import train_tokenizer

CONTEXT = 768
Run = Callable[..., Result]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(
        ["def add(a, b):\n    return a + b\n", "for item in items:\n    print(item)\n"], 300, CONTEXT
    )


def save_model(folder: Path, tokenizer: PreTrainedTokenizerFast, seed: int, noise: float = 0.0) -> Path:
    """A random Llama of two layers; models of one seed differ by `noise`."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=300,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=CONTEXT,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
        )
    )
    with torch.no_grad():
        model.lm_head.weight.mul_(8)
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    save_model(folder / "target", tokenizer, seed=0)
    save_model(folder / "draft", tokenizer, seed=0, noise=0.01)
    return folder


@pytest.fixture(scope="session")
def models(pair: Path) -> list[str]:
    """The options that choose the tiny pair."""
    return ["--target", str(pair / "target"), "--draft", str(pair / "draft")]


@pytest.fixture
def run() -> Run:
    """`run("generate", "x")` as on the command line; the result has stdout, stderr and exit_code."""

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    return invoke
