"""The pytest plug-in: the marker of conformance tests, and fixtures for authors of policies and engines.

pytest loads it in every environment that stopkit is installed in, so nothing heavy is imported before it is used.
"""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from stopkit import Engine
    from stopkit.testing import TableModel


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, so that --strict-markers accepts it."""
    config.addinivalue_line("markers", "stopkit: conformance checks; select with -m stopkit")


@pytest.fixture
def stopkit_pair() -> "tuple[TableModel, TableModel]":
    """A target and a draft over three tokens, the same in every test: small enough to enumerate."""
    import torch

    from stopkit.testing import TableModel

    generator = torch.Generator().manual_seed(0)
    return TableModel.random(3, generator), TableModel.random(3, generator)


@pytest.fixture
def stopkit_engine(stopkit_pair: "tuple[TableModel, TableModel]") -> "Engine":
    """The eager engine over `stopkit_pair`; its costs are fixed, so that equal seeds give equal runs."""
    from stopkit.plugins import registry
    from stopkit.testing.exact import COSTS

    engine: Engine = registry().engine("eager").from_models(*stopkit_pair, costs=COSTS)
    return engine
