"""A number that nobody may look at: how a replay finds out that a policy does not care what time costs."""

from typing import Any

import torch
from torch import Tensor


class CostsSeen(Exception):
    """A policy looked at costs or seconds that it was not meant to see."""


class _Unseen(Tensor):
    """Can be passed on and kept; every operation on it raises CostsSeen."""

    @classmethod
    def __torch_function__(cls, *operation: Any, **more: Any) -> Any:
        raise CostsSeen


UNSEEN: Tensor = torch.ones((), dtype=torch.float64).as_subclass(_Unseen)
