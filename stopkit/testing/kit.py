"""The conformance kit: every check on a policy or an engine, at once or each as a test of its own."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from stopkit.engine import Engine
from stopkit.policy import StoppingPolicy
from stopkit.testing.checks import (
    EXAMPLES,
    Check,
    ConformanceError,
    Result,
    Verdict,
    judged,
    require_known,
)
from stopkit.testing.for_engines import ENGINE_CHECKS
from stopkit.testing.for_policies import POLICY_CHECKS

Test = TypeVar("Test", bound=Callable[..., Any])
Reasons = Mapping[str, str]


def check_policy(
    policy: StoppingPolicy | type[StoppingPolicy], *, expected_failures: Reasons | None = None, examples: int = EXAMPLES
) -> list[Result]:
    """Run every check on `policy`; a class stands for its instance with default fields.

    `expected_failures` maps the names of checks to why they fail; one of them that passes fails. Raises
    ConformanceError, with the smallest counter-examples found, if a check fails.
    """
    return _all(POLICY_CHECKS, _instance(policy), expected_failures, examples)


def check_engine(
    engine: type[Engine], *, expected_failures: Reasons | None = None, examples: int = EXAMPLES
) -> list[Result]:
    """Run every check on an engine class, made with `from_models`; otherwise like `check_policy`."""
    return _all(ENGINE_CHECKS, engine, expected_failures, examples)


def policy_checks(
    policy: StoppingPolicy | type[StoppingPolicy], *, expected_failures: Reasons | None = None, examples: int = EXAMPLES
) -> Callable[[Test], Test]:
    """Make a pytest function of one argument `check` into a test for every check; its body is `check()`."""
    return _as_tests(POLICY_CHECKS, _instance(policy), expected_failures, examples)


def engine_checks(
    engine: type[Engine], *, expected_failures: Reasons | None = None, examples: int = EXAMPLES
) -> Callable[[Test], Test]:
    """What `policy_checks` does, for an engine class."""
    return _as_tests(ENGINE_CHECKS, engine, expected_failures, examples)


def results(checks: Sequence[Check], subject: Any, expected: Reasons, examples: int) -> Iterator[Result]:
    """Every check's result as it becomes known."""
    require_known(expected, checks)
    for check in checks:
        yield judged(check.run(subject, examples), expected)


def _all(checks: Sequence[Check], subject: Any, expected: Reasons | None, examples: int) -> list[Result]:
    outcomes = list(results(checks, subject, expected or {}, examples))
    if bad := [str(result) for result in outcomes if not result.good]:
        raise ConformanceError(f"{subject!r} fails {len(bad)} of {len(outcomes)} checks:\n" + "\n".join(bad))
    return outcomes


def _as_tests(checks: Sequence[Check], subject: Any, expected: Reasons | None, examples: int) -> Callable[[Test], Test]:
    import pytest

    require_known(expected or {}, checks)

    def test_of(check: Check) -> Callable[[], None]:
        def run() -> None:
            __tracebackhide__ = True
            result = judged(check.run(subject, examples), expected or {})
            if result.verdict == Verdict.SKIPPED:
                pytest.skip(result.reason)
            if result.verdict == Verdict.EXPECTED:
                pytest.xfail(result.reason)
            if not result.good:
                raise ConformanceError(f"{subject!r}: {result}")

        return run

    cases = [pytest.param(test_of(check), id=check.name) for check in checks]

    def decorate(test: Test) -> Test:
        marked: Test = pytest.mark.stopkit(pytest.mark.parametrize("check", cases)(test))
        return marked

    return decorate


def _instance(policy: StoppingPolicy | type[StoppingPolicy]) -> StoppingPolicy:
    return policy() if isinstance(policy, type) else policy
