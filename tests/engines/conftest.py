"""Fixtures shared by the engine's tests."""

from typing import Any

import pytest

from stopkit import Engine
from stopkit.plugins import registry
from tests.engines.models import noisy_copy, random_model

POLICIES = [
    "autoregressive",
    "static:length=1",
    "static:length=4",
    "adaedl",
    "adaedl:threshold=0.2,max_draft=6,min_draft=0",
    "max_probability:stop_token=include,threshold=0.3",
]
"""A few settings of every built-in policy; the exact proof draws the rest."""

PROMPTS = [[3, 1, 4, 1, 5, 9, 2, 6], [2], [7, 1, 8], [2, 8, 1, 8, 2, 8, 4, 5, 9, 0, 4, 5]]
"""Token ids, of different lengths."""


@pytest.fixture(scope="session")
def target() -> Any:
    return random_model()


@pytest.fixture(scope="session")
def draft(target: Any) -> Any:
    return noisy_copy(target)


@pytest.fixture(scope="session")
def engine(target: Any, draft: Any) -> Engine:
    return registry().engine("eager").from_models(target, draft)
