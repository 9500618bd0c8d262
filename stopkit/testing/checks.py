"""Checks: small named functions that a policy or an engine must satisfy, run one by one on examples that shrink."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyFailure

from stopkit.errors import InputError, StopkitError
from stopkit.validation import did_you_mean

T = TypeVar("T")
EXAMPLES = 40
"""Examples of a check unless told otherwise."""


class Draw(Protocol):
    """Gives a check one value of a strategy; Hypothesis looks for the smallest values that make the check fail."""

    def __call__(self, strategy: st.SearchStrategy[T], /) -> T: ...


CheckFunction = Callable[[Any, Draw], None]


class Skipped(Exception):
    """The subject lacks an ability that the check is about; the message says which."""


class ConformanceError(AssertionError):
    """Some check failed; the message tells which, why and on what."""


class Verdict(StrEnum):
    """What became of a check."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    EXPECTED = "expected failure"


@dataclass(frozen=True)
class Result:
    """One check and what became of it."""

    check: str
    verdict: Verdict
    reason: str = ""
    """Why it failed or was skipped, or why that was expected."""
    example: str = ""
    """The smallest values that make it fail, one a line."""

    @property
    def good(self) -> bool:
        """Whether there is nothing to mend."""
        return self.verdict != Verdict.FAILED

    def __str__(self) -> str:
        lines = [f"{self.check}: {self.verdict}", *self.reason.splitlines()]
        lines += ["with:", *self.example.splitlines()] if self.example else []
        return "\n    ".join(lines)


@dataclass(frozen=True)
class Check:
    """A named check. It fails by raising anything but `Skipped`."""

    function: CheckFunction
    examples: int | None = None
    """How many examples at most, where each is expensive."""

    @property
    def name(self) -> str:
        """What test ids, tables and expected failures call it."""
        return self.function.__name__

    @property
    def promise(self) -> str:
        """What holds when it passes, in a line."""
        return (self.function.__doc__ or "").strip().partition("\n")[0]

    def run(self, subject: Any, examples: int = EXAMPLES) -> Result:
        """Run it on `subject`, the same examples every time. Raises InputError where Python ignores assertions."""
        if not __debug__:
            raise InputError("checks are made by assertions, which Python ignores with -O; run it without.")
        drawn: list[str] = []

        @settings(
            max_examples=min(examples, self.examples or examples),
            deadline=None,
            derandomize=True,
            database=None,
            print_blob=False,
            report_multiple_bugs=False,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        @given(st.data())
        def on_every_example(data: st.DataObject) -> None:
            drawn.clear()  # Hypothesis ends with the smallest failing example

            def draw(strategy: st.SearchStrategy[T], /) -> T:
                value = data.draw(strategy)
                drawn.append(repr(value))
                return value

            self.function(subject, draw)

        try:
            on_every_example()
        except Skipped as skipped:
            return Result(self.name, Verdict.SKIPPED, str(skipped))
        except Exception as error:
            return Result(self.name, Verdict.FAILED, _reason(error), "\n".join(drawn))
        return Result(self.name, Verdict.PASSED)


def _reason(error: BaseException) -> str:
    if isinstance(error, FlakyFailure):
        return f"{_reason(error.exceptions[0])}\nand it does not fail every time: something is remembered, or random"
    if isinstance(error.__cause__, AssertionError):  # raised by the check, where a caller put it in words of its own
        return _reason(error.__cause__)
    if isinstance(error, AssertionError):
        return str(error).partition("\nassert ")[0]  # pytest, where it rewrites the checks, adds the expression
    return str(error) if isinstance(error, StopkitError) else f"{type(error).__name__}: {error}"


def judged(result: Result, expected: Mapping[str, str]) -> Result:
    """The result where some checks are `expected` to fail, each for a reason; one that passes all the same fails."""
    if result.check not in expected or result.verdict == Verdict.SKIPPED:
        return result
    if result.verdict == Verdict.PASSED:
        return Result(result.check, Verdict.FAILED, f"passed, though expected to fail: {expected[result.check]}")
    return Result(result.check, Verdict.EXPECTED, expected[result.check])


def require_known(names: Mapping[str, str], checks: Sequence[Check]) -> None:
    """Raise InputError for an expected failure of a check that does not exist."""
    known = [check.name for check in checks]
    if unknown := sorted(names.keys() - set(known)):
        raise InputError(f"expected_failures: there is no check {unknown[0]!r}.{did_you_mean(unknown[0], known)}")
