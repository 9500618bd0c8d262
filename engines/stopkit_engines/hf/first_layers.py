"""The first layers of a model, with its final norm and head, as a model that shares its weights and its cache."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from stopkit.errors import InputError
from stopkit_engines.hf.cached_model import CachedModel
from stopkit_engines.hf.trial import Served, Trial, served


class FirstLayers(CachedModel):
    """A `Runner`: the first layers of a target, which keep what they see in the cache of the target's runner.

    A forward of the target writes every layer, so what the target has seen its first layers have, too, and a round
    leaves them nothing to catch up with. A forward of these writes behind what the target has seen, where the target
    writes again before it reads.
    """

    def __init__(self, model: Any, target: CachedModel) -> None:
        super().__init__(model, target.vocabulary, len(target.filled), target.capacity, target.filled.device)
        self._target, self._cache = target, target._cache

    def rewind(self, agreed: Tensor) -> None:
        seen = torch.maximum(self.filled, self._target.filled)
        self.filled = torch.minimum(seen, agreed)


def served_in_short(target: Served, count: int, where: str, trial: Trial) -> Served:
    """The first `count` layers of a target as what drafts for it, and how they are run.

    Raises InputError, which names `where`, if they cannot draft, or cannot keep what they see in the target's cache.
    """
    _require_ragged(target, where)
    short = served(first_layers(target.model, count, where), where, trial)
    _require_ragged(short, where)
    return replace(short, of_target=True)


def first_layers(model: Any, count: int, where: str) -> Any:
    """A model of `model`'s class that ends after its first `count` layers. Every weight in it is `model`'s own.

    Raises InputError, which names `where`, if there are not more layers than that, or none that could be left out.
    """
    has = int(model.config.get_text_config().num_hidden_layers)
    if count >= has:
        most = f"at most {has - 1}" if has > 1 else "none of which can be left out"
        raise InputError(f"{where}.layers: got {count}, and the target has {has} layers, {most} can draft.")
    *parents, name = _path(model, has, where)
    config = deepcopy(model.config)
    text = config.get_text_config()
    twin = inner = _twin(model)
    twin.config = config
    for parent in parents:
        child = _twin(getattr(inner, parent))
        if hasattr(child, "config"):
            child.config = config if child.config is model.config else text
        setattr(inner, parent, child)
        inner = child
    setattr(inner, name, getattr(inner, name)[:count])
    text.num_hidden_layers = count
    if kinds := vars(text).get("layer_types"):
        text.layer_types = kinds[:count]
    return twin


def _require_ragged(model: Served, where: str) -> None:
    if not model.way.ragged:
        raise InputError(
            f"{where}: early_exit keeps what it sees in the target's cache, row by row, and this "
            f"{model.model.config.model_type} model runs as {model.way.name}, with a cache of its own; let a model or "
            "prompt_lookup draft."
        )


def _path(model: Any, layers: int, where: str) -> list[str]:
    """The names that lead from `model` to the list of its layers."""
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model
    prefix = next((name for name, module in model.named_modules() if module is decoder), "")
    for name, module in decoder.named_modules(prefix=prefix):
        if isinstance(module, nn.ModuleList) and len(module) == layers:
            return str(name).split(".")
    raise InputError(
        f"{where}: early_exit needs a list of layers that can be cut short, and this {model.config.model_type} model "
        f"({type(model).__name__}) has none; let a model or prompt_lookup draft."
    )


def _twin(module: nn.Module) -> Any:
    """A module of the same class with the same parts, of which others can be put in."""
    twin = module.__new__(type(module))
    twin.__dict__ = module.__dict__ | {"_modules": dict(module._modules)}
    twin.__dict__.pop("forward", None)  # a wrapped one would call the module that it was made for
    return twin
