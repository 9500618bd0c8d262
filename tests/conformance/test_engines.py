"""Every registered engine passes the conformance kit; where models are files, tables take their place."""

from collections.abc import Callable

from stopkit import Engine
from stopkit.plugins import registry
from stopkit.testing import engine_checks
from stopkit.testing.checks import EXAMPLES
from tests.engines.llama_of_tables import OverTables

Test = Callable[[Callable[[], None]], None]

INSTEAD: dict[str, type[Engine]] = {"llamacpp": OverTables}
"""Engines that take the kit's models, for those that take none."""
FEWER = {"llamacpp": 10}
"""Examples of a check, where every token is looked up in plain Python."""


def conformance(engine: type[Engine], examples: int) -> Test:
    @engine_checks(engine, examples=examples)
    def test(check: Callable[[], None]) -> None:
        check()

    return test


globals().update(
    {
        f"test_{kind}": conformance(INSTEAD.get(kind, cls), FEWER.get(kind, EXAMPLES))
        for kind, cls in registry().engines.items()
    }
)
