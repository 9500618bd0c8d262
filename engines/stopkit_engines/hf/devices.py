"""Where models run: the names of devices that torch takes, and the models that are all in one place."""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import AfterValidator

from stopkit.errors import InputError, one_line

AUTO = "auto"


def _device_name(name: str) -> str:
    if name != AUTO:
        try:
            torch.device(name)
        except (RuntimeError, ValueError):
            raise ValueError("must be auto, or a device of torch such as cpu, cuda or cuda:1") from None
    return name


DeviceName = Annotated[str, AfterValidator(_device_name)]
"""`auto`, or what `torch.device` takes."""


def resolve_device(name: str) -> torch.device:
    """`auto` is CUDA where there is a device, else the CPU. Raises InputError for one that torch cannot use here."""
    if name == AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    require_usable(device, f"engine.device: {name}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"engine.device: {name} was asked for and torch finds no CUDA device; use cpu or auto.")
    try:
        torch.zeros(1, device=device)
    except Exception as error:  # backends that are not there raise errors of any kind
        raise InputError(f"engine.device: torch cannot use {name}: {one_line(error)}; use cpu or auto.") from None
    return device


def require_usable(device: torch.device, where: str) -> None:
    """Raise InputError for devices that no model can be run on."""
    if device.type == "meta":
        raise InputError(f"{where}: weights there have no values; load them onto a CPU or a GPU.")
    if device.type == "mps":
        raise InputError(f"{where}: stopkit draws in float64, which that device has not; use cpu.")


def require_one_place(models: Mapping[str, Any]) -> None:
    """Raise InputError unless all weights of `models`, by the engine's field, are on one device that can be used."""
    seen: dict[torch.device, str] = {}
    for name, model in models.items():
        places = _places(model)
        for place in places:
            require_usable(place, f"engine.{name}: on {place}")
        if len(places) > 1:
            spread = ", ".join(sorted(map(str, places)))
            raise InputError(f"engine.{name}: is spread over {spread}; load it onto one device (device_map).")
        seen.update(dict.fromkeys(places, name))
    if len(seen) > 1:
        spread = ", ".join(f"engine.{name} on {place}" for place, name in seen.items())
        raise InputError(
            f"engine.draft: the models are on different devices ({spread}); move the draft to the target's."
        )


def _places(model: Any) -> set[torch.device]:
    """The devices of a model's weights; empty if it tells of none."""
    parameters = getattr(model, "parameters", None)
    return {parameter.device for parameter in parameters()} if parameters else set()
