"""Where models run: every name that torch takes, and models that are not in one place, quantised ones among them."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import stopkit
from stopkit import InputError
from stopkit_engines.hf.devices import require_one_place, resolve_device
from tests.engines.models import random_model

PROMPTS = [[3, 4], [5, 6, 7, 8, 9]]


@pytest.mark.parametrize("name", ["auto", "cpu", "cpu:0", "cuda", "cuda:1", "mps", "meta", "xpu:0"])
def test_the_names_of_devices(name: str) -> None:
    assert stopkit.load_engine({"kind": "eager", "device": name}).model_dump()["device"] == name


@pytest.mark.parametrize("name", ["", "tpu", "cuda:x", "cuda:-1", "cpu:0:0", "auto:0"])
def test_what_is_no_device(name: str) -> None:
    with pytest.raises(InputError, match=r"^engine\.device: must be auto, or a device of torch"):
        stopkit.load_engine({"kind": "eager", "device": name})


def test_the_first_cpu_is_the_cpu() -> None:
    options: dict[str, Any] = {"policy": "static:length=2", "max_new_tokens": 6, "temperature": 0}
    texts = [
        stopkit.load_engine({"kind": "eager", "device": name}).generate("for", **options).text
        for name in ("cpu", "cpu:0")
    ]
    assert texts[0] == texts[1]


REFUSED = {
    "meta": "engine.device: meta: weights there have no values",
    "mps": "engine.device: mps: stopkit draws in float64",
    "xpu": "engine.device: torch cannot use xpu",
}


@pytest.mark.parametrize("name", REFUSED)
def test_devices_that_cannot_be_used(name: str) -> None:
    with pytest.raises(InputError, match=REFUSED[name]) as refused:
        resolve_device(name)
    assert "\n" not in str(refused.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_the_second_gpu_of_none() -> None:
    with pytest.raises(InputError, match=r"engine\.device: cuda:1 was asked for and torch finds no CUDA device"):
        resolve_device("cuda:1")


def test_models_without_weights_are_refused() -> None:
    target = random_model()
    with pytest.raises(InputError, match=r"engine\.draft: on meta: weights there have no values"):
        stopkit.wrap(target, random_model().to("meta"))
    half = random_model()
    half.model.layers[1].to("meta")  # as device_map leaves what it has put on a disk
    with pytest.raises(InputError, match=r"engine\.target: on meta"):
        stopkit.wrap(half)


class Elsewhere:
    """Stands for a model with weights on other devices."""

    def __init__(self, *devices: str) -> None:
        self._devices = devices

    def parameters(self) -> Any:
        return iter([type("Weight", (), {"device": torch.device(device)}) for device in self._devices])


def test_models_that_are_spread_are_refused() -> None:
    with pytest.raises(InputError, match=r"engine\.target: is spread over cuda:0, cuda:1; load it onto one device"):
        require_one_place({"target": Elsewhere("cuda:0", "cuda:1")})
    with pytest.raises(InputError, match=r"different devices \(engine\.target on cuda:0, engine\.draft on cuda:1\)"):
        require_one_place({"target": Elsewhere("cuda:0"), "draft": Elsewhere("cuda:1")})
    with pytest.raises(InputError, match=r"engine\.target: on mps:0: stopkit draws in float64"):
        require_one_place({"target": Elsewhere("mps:0")})
    require_one_place({"target": Elsewhere("cuda:1"), "draft": Elsewhere("cuda:1", "cuda:1")})


class Int8Linear(nn.Module):
    """A linear layer whose weights are 8-bit integers with a scale a row, and widened in every call."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__()
        scale = plain.weight.detach().abs().amax(1, keepdim=True) / 127
        self.register_buffer("scale", scale)
        self.register_buffer("quantised", (plain.weight.detach() / scale).round().to(torch.int8))

    def forward(self, states: Tensor) -> Tensor:
        return states @ (self.quantised * self.scale).T


def quantised(model: Any) -> Any:
    for layer in model.model.layers:
        for part in (layer.self_attn, layer.mlp):
            for name, child in part.named_children():
                if isinstance(child, nn.Linear):
                    setattr(part, name, Int8Linear(child))
    return model


def test_a_quantised_target_says_what_it_says_by_itself() -> None:
    target, draft = quantised(random_model()), random_model()
    result = stopkit.wrap(target, draft).generate(PROMPTS, "static:length=3", max_new_tokens=12, temperature=0)
    for prompt, tokens in zip(PROMPTS, result.tokens, strict=True):
        plain = target.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=12)
        assert plain[0, len(prompt) :].tolist() == tokens
    assert result.stats.accepted


@pytest.mark.filterwarnings("ignore")
def test_activations_that_are_rounded_by_what_stands_beside_them_are_refused() -> None:
    """Dynamic quantisation scales by all that a forward is given, so a block can change what a token says."""
    target = torch.ao.quantization.quantize_dynamic(random_model(), {nn.Linear})
    with pytest.raises(InputError, match=r"engine\.target: this llama model .* depends on those that follow"):
        stopkit.wrap(target)


def test_wrap_makes_any_engine_and_takes_its_fields() -> None:
    target = random_model()
    assert stopkit.wrap(target).kind == "eager"
    engine = stopkit.wrap(target, {"kind": "prompt_lookup"}, kind="compiled", compile=False, trial="never")
    assert engine.model_dump()["trial"] == "never"
    assert engine.generate(PROMPTS, "static:length=2", max_new_tokens=4, temperature=0).stats.tokens == 8
    with pytest.raises(InputError, match=r"wrap\.target: 'gpt2' is a name; give a model that is loaded"):
        stopkit.wrap("gpt2")
    with pytest.raises(InputError, match=r"wrap\.draft: 'bundled:draft' is a name"):
        stopkit.wrap(target, "bundled:draft")
    with pytest.raises(InputError, match=r"wrap\.kind: unknown kind 'eagre'. Did you mean 'eager'"):
        stopkit.wrap(target, kind="eagre")
    with pytest.raises(InputError, match=r"engine\.devic: unknown field. Did you mean 'device'"):
        stopkit.wrap(target, devic="cpu")
