"""Every registered engine passes the conformance kit."""

from collections.abc import Callable

from stopkit import Engine
from stopkit.plugins import registry
from stopkit.testing import engine_checks

Test = Callable[[Callable[[], None]], None]


def conformance(engine: type[Engine]) -> Test:
    @engine_checks(engine)
    def test(check: Callable[[], None]) -> None:
        check()

    return test


globals().update({f"test_{kind}": conformance(cls) for kind, cls in registry().engines.items()})
