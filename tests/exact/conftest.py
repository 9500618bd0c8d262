"""Keeps the score of the exact proof, so that a run tells what it proved."""

import pytest

distances: list[float] = []


@pytest.fixture(scope="session")
def proof() -> list[float]:
    """Append the total variation distance of every example."""
    return distances


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if distances:
        terminalreporter.write_line(
            f"exact proof: {len(distances)} examples, largest total variation distance {max(distances):.2e}"
        )
