"""`vectorised` is `torch.vmap`, sooner done."""

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from stopkit.trace.lanes import vectorised

Function = Callable[..., tuple[Tensor, Mapping[str, Tensor]]]


def learns(state: Mapping[str, Tensor], a: Tensor, b: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
    table = state["table"].where(torch.arange(3) < a, 0).cumsum(1)
    best = table.max(1).indices + b.long()
    return best, {"table": table * state["rate"], "rate": torch.cat([state["rate"], b]).mean(0, keepdim=True)}


def knows_it_all_along(state: Mapping[str, Tensor], a: Tensor, b: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
    return torch.ones(1, dtype=torch.bool), {"same": state["rate"], "fixed": torch.arange(2)}


@pytest.mark.parametrize("function", [learns, knows_it_all_along])
def test_it_is_vmap(function: Function) -> None:
    chance = torch.Generator().manual_seed(0)
    state = {"table": torch.rand(5, 1, 3, generator=chance), "rate": torch.rand(5, 1, generator=chance)}
    values = torch.randint(4, (5, 1), generator=chance), torch.rand(5, generator=chance).unsqueeze(1)
    first, others = vectorised(function, state, values)
    expected_first, expected_others = torch.vmap(function)(state, *values)
    assert torch.equal(first, expected_first)
    assert others.keys() == expected_others.keys()
    assert all(torch.equal(value, expected_others[name]) for name, value in others.items())


def waits(state: Mapping[str, Tensor], a: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
    return a * int(a.item()), {}


def branches(state: Mapping[str, Tensor], a: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
    return (a if a > 1 else -a), {}


def gambles(state: Mapping[str, Tensor], a: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
    return torch.rand_like(a.float()), {}


@pytest.mark.parametrize("function", [waits, branches, gambles])
def test_what_cannot_be_vectorised_is_refused_and_leaves_nothing_behind(function: Function) -> None:
    values = (torch.arange(4).unsqueeze(1),)
    with pytest.raises(RuntimeError):
        vectorised(function, {}, values)
    doubled, _ = vectorised(lambda state, a: (2 * a, {}), {}, values)
    assert torch.equal(doubled, 2 * values[0])
