"""Settings for every test: quiet, repeatable, one thread a worker; and the score of the exact proof."""

import os
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch.set_num_threads(1)

settings.register_profile(
    "stopkit", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], max_examples=60
)
settings.load_profile("stopkit")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked gpu are skipped, with the reason shown, where there is no CUDA device."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


distances: list[float] = []


@pytest.fixture(scope="session")
def proof() -> list[float]:
    """Append the total variation distance of every example of the exact proof, so that a run tells what it proved."""
    return distances


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of several hands its distances to the one that reports."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["distances"] = distances


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    distances.extend(getattr(node, "workeroutput", {}).get("distances", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if distances:
        terminalreporter.write_line(
            f"exact proof: {len(distances)} examples, largest total variation distance {max(distances):.2e}"
        )
