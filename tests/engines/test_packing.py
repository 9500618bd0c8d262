"""Packed weights say what plain ones say, but for rounding, and what is loaded is packed unless that is declined."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

import stopkit
from stopkit import processor
from stopkit.hashing import hash_of_tensors
from stopkit.pair.bundled import model_path
from stopkit_engines.hf import loading, packing
from stopkit_engines.hf.packing import DTYPES, PackedLinear, is_packed, pack, packs

pytestmark = pytest.mark.skipif(not packs(torch.float32), reason="torch was built without the kernels")

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def draft() -> str:
    return str(model_path("draft", "draft"))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_a_packed_layer_agrees_with_the_plain_one(dtype: torch.dtype, bias: bool) -> None:
    if not packs(dtype):
        pytest.skip(f"this processor has no kernels for {dtype}")
    torch.manual_seed(0)
    plain = nn.Linear(48, 80, bias=bias, dtype=dtype)
    packed = PackedLinear(plain)
    assert torch.equal(packed.weight, plain.weight)
    for shape in [(48,), (1, 48), (3, 48), (2, 7, 48), (2, 3, 5, 48)]:
        states = torch.randn(shape, dtype=dtype)
        made, wanted = packed(states), plain(states)
        assert made.shape == wanted.shape
        assert made.dtype == dtype
        torch.testing.assert_close(made, wanted)


def test_what_there_is_no_kernel_for_stays_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "packs", lambda dtype: dtype is torch.float32)
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16, dtype=torch.bfloat16))
    pack(model)
    assert [type(layer) for layer in model] == [PackedLinear, nn.Linear]


def test_a_kernel_that_the_processor_lacks_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks(self: PackedLinear, plain: nn.Linear) -> None:
        raise RuntimeError("bf16 path needs the cpu support avx512bw")

    monkeypatch.setattr(PackedLinear, "__init__", lacks)
    assert not packs.__wrapped__(torch.bfloat16)


@torch.inference_mode()
def test_a_packed_model_agrees_and_is_known_by_the_same_weights(draft: str) -> None:
    plain = loading.load_model(draft, CPU, "float32", False, "draft")
    packed = loading.load_model(draft, CPU, "float32", True, "draft")
    assert is_packed(packed)
    assert not is_packed(plain)
    assert loading.fingerprint(packed) == loading.fingerprint(plain)
    tokens = torch.randint(4096, (2, 40))
    torch.testing.assert_close(packed(tokens).logits, plain(tokens).logits, atol=1e-4, rtol=1e-4)


def test_nothing_of_the_plain_weights_is_kept() -> None:
    model = nn.Sequential(nn.Linear(16, 16), nn.Sequential(nn.Linear(16, 16), nn.Embedding(4, 16)))
    names = set(hash_names(model))
    pack(model)
    assert {name for name, _ in model.named_parameters()} == {"0.bias", "1.0.bias", "1.1.weight"}
    assert set(hash_names(model)) == names


def hash_names(model: nn.Module) -> list[str]:
    return [*model.state_dict()]


def test_other_layers_stay_as_they_are() -> None:
    class Special(nn.Linear):
        pass

    model = nn.Sequential(Special(8, 8), nn.Linear(8, 8, dtype=torch.float64), nn.LayerNorm(8))
    before = hash_of_tensors(model.state_dict())
    pack(model)
    assert not is_packed(model)
    assert hash_of_tensors(model.state_dict()) == before


@pytest.mark.parametrize("packed", [True, False])
def test_the_engine_packs_what_it_loads(packed: bool) -> None:
    engine = stopkit.load_engine({"kind": "eager", "packed": packed, "device": "cpu"})
    assert engine.loaded() == {}
    engine.generate(["def f("], policy="static", max_new_tokens=2)
    assert engine.loaded()["packed"] == {"target": packed, "draft": packed}


def test_models_that_are_given_are_left_alone(draft: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(draft, dtype=torch.float32)
    engine = stopkit.load_engine("eager").from_models(model, model)
    engine.generate([[1, 2, 3]], policy="static", max_new_tokens=2)
    assert engine.loaded()["packed"] == {"target": False, "draft": False}


@pytest.mark.parametrize(("fast", "saved", "chosen"), [
    (True, torch.float16, torch.bfloat16),
    (True, torch.bfloat16, torch.bfloat16),
    (True, torch.float32, torch.float32),
    (False, torch.float16, torch.float32),
    (False, torch.float32, torch.float32),
])  # fmt: skip
def test_auto_is_bfloat16_where_that_is_fast_and_loses_nothing(
    fast: bool, saved: torch.dtype, chosen: torch.dtype, draft: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "computes_bfloat16", lambda: fast)
    model: Any = AutoModelForCausalLM.from_pretrained(draft, dtype=saved)
    model.save_pretrained(tmp_path)
    assert loading.load_model(str(tmp_path), CPU, "auto", False, "draft").dtype == chosen
    assert loading.load_model(str(tmp_path), CPU, "float32", False, "draft").dtype == torch.float32


def test_a_torch_that_does_not_tell_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not processor.computes_bfloat16()
