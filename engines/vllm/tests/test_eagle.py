"""The same hooks for a head that reads the target's hidden states."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from work import TARGET, counters, generate, served, statistics


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An EAGLE head that hands the target's hidden state on: it drafts the token that the target gave last."""
    folder = tmp_path_factory.mktemp("eagle")
    config = json.loads((Path(TARGET) / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    width, inner = config["hidden_size"], config["intermediate_size"]
    weights = {
        "fc.weight": torch.cat([torch.zeros(width, width), torch.eye(width)], 1),
        "layers.0.post_attention_layernorm.weight": torch.ones(width),
        "layers.0.mlp.gate_proj.weight": torch.zeros(inner, width),
        "layers.0.mlp.up_proj.weight": torch.zeros(inner, width),
        "layers.0.mlp.down_proj.weight": torch.zeros(width, inner),
    }
    weights |= {f"layers.0.self_attn.{name}_proj.weight": torch.zeros(width, width) for name in "qkvo"}
    save_file(weights, folder / "model.safetensors")
    return str(folder)


@pytest.fixture(scope="module")
def eagle(head: str) -> Any:
    speculative = {"method": "eagle", "model": head, "num_speculative_tokens": 4}
    return served(max_num_seqs=8, max_model_len=256, speculative_config=speculative)


@pytest.mark.parametrize("policy", ["max_probability", "static:length=2"])
def test_a_policy_ends_its_blocks(eagle: Any, plain: Any, policy: str) -> None:
    eagle.collective_rpc("stopkit_use", args=(policy,))
    before = counters(eagle)
    assert generate(eagle, "eight") == plain("eight")
    now, counted = counters(eagle), statistics(eagle)
    assert now["drafted"] - before["drafted"] == counted["drafted"] > 0
    assert now["accepted"] - before["accepted"] == counted["accepted"]
    assert len(counted["offered_by_position"]) <= (2 if policy.startswith("static") else 4)
