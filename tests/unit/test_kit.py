"""The conformance kit itself: what becomes of a check that passes, fails, is skipped or was expected to fail."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st

from stopkit import StoppingPolicy, load_policy
from stopkit.errors import InputError, PolicyError
from stopkit.testing import kit
from stopkit.testing.checks import Check, CheckFunction, ConformanceError, Draw, Result, Skipped, Verdict, judged
from stopkit.testing.for_policies import POLICY_CHECKS
from stopkit.testing.kit import check_policy, policy_checks

STATIC = load_policy("static")


def holds(subject: Any, draw: Draw) -> None:
    """Any number is itself.

    Only the first line is a promise.
    """
    number = draw(st.integers())
    assert number == number


def stays_small(subject: Any, draw: Draw) -> None:
    """No number is large."""
    number = draw(st.integers(0, 1000))
    assert number < 17, f"{number} is large"


def needs_wings(subject: Any, draw: Draw) -> None:
    """It flies."""
    raise Skipped("it has no wings")


TOYS = (Check(holds), Check(stays_small), Check(needs_wings))
EXPECTED = {"stays_small": "numbers grow"}


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kit, with three checks on policies that are quickly run."""
    monkeypatch.setattr(kit, "POLICY_CHECKS", TOYS)


def run(function: CheckFunction, **options: int) -> Result:
    return Check(function).run(STATIC, **options)


def test_check_tells_its_name_and_promise() -> None:
    assert (Check(holds).name, Check(holds).promise) == ("holds", "Any number is itself.")


def test_every_policy_check_makes_a_promise_in_a_line() -> None:
    assert all(check.promise.endswith(".") for check in POLICY_CHECKS)
    assert len({check.name for check in POLICY_CHECKS}) == len(POLICY_CHECKS)


def test_counter_example_is_the_smallest_and_is_shown() -> None:
    result = run(stays_small)
    assert result == Result("stays_small", Verdict.FAILED, "17 is large", "17")
    assert str(result) == "stays_small: failed\n    17 is large\n    with:\n    17"


def test_every_drawn_value_is_shown() -> None:
    def never(subject: Any, draw: Draw) -> None:
        draw(st.lists(st.booleans(), min_size=2))
        draw(st.text())
        raise AssertionError("never")

    assert run(never).example == "[False, False]\n''"


def test_examples_are_the_same_every_time_and_no_more_than_asked_for() -> None:
    seen: list[list[int]] = [[], []]
    for numbers in seen:

        def collects(subject: Any, draw: Draw, numbers: list[int] = numbers) -> None:
            numbers.append(draw(st.integers()))

        assert Check(collects, examples=12).run(STATIC).verdict == Verdict.PASSED
        assert Check(collects, examples=12).run(STATIC, examples=5).verdict == Verdict.PASSED
    assert seen[0] == seen[1]
    assert len(seen[0]) == 12 + 5


def test_any_error_fails_a_check() -> None:
    def breaks(subject: Any, draw: Draw) -> None:
        raise KeyError("length")

    assert run(breaks).reason == "KeyError: 'length'"


def test_error_in_the_words_of_a_caller_is_told_in_those_of_the_check() -> None:
    def wrapped(subject: Any, draw: Draw) -> None:
        try:
            raise AssertionError("the cap is -1")
        except AssertionError as error:
            raise PolicyError("policy 'static', plan: AssertionError") from error

    assert run(wrapped).reason == "the cap is -1"


def test_failure_that_comes_and_goes_is_told_as_such() -> None:
    state = random.Random(0)

    def sometimes(subject: Any, draw: Draw) -> None:
        draw(st.integers())
        assert state.random() < 0.8, "bad luck"

    result = run(sometimes)
    assert result.verdict == Verdict.FAILED
    assert result.reason.startswith("bad luck\n")
    assert "not fail every time" in result.reason


def test_missing_ability_is_a_skip_with_its_reason() -> None:
    assert str(run(needs_wings)) == "needs_wings: skipped\n    it has no wings"


@pytest.mark.parametrize(
    ("verdict", "becomes"),
    [
        (Verdict.PASSED, Verdict.FAILED),
        (Verdict.FAILED, Verdict.EXPECTED),
        (Verdict.SKIPPED, Verdict.SKIPPED),
    ],
)
def test_expected_failures_are_strict(verdict: Verdict, becomes: Verdict) -> None:
    result = judged(Result("stays_small", verdict), EXPECTED)
    assert result.verdict == becomes
    assert result.good == (becomes != Verdict.FAILED)
    assert ("numbers grow" in result.reason) == (verdict != Verdict.SKIPPED)


@pytest.mark.usefixtures("toys")
def test_failure_of_a_policy_is_told_with_its_example() -> None:
    with pytest.raises(ConformanceError, match=r"(?s)Static\(\) fails 1 of 3 checks:.*17 is large.*with:\n *17"):
        check_policy(STATIC)


@pytest.mark.usefixtures("toys")
def test_every_result_is_returned() -> None:
    found = check_policy(type(STATIC), expected_failures=EXPECTED)
    assert [result.verdict for result in found] == [Verdict.PASSED, Verdict.EXPECTED, Verdict.SKIPPED]


@pytest.mark.usefixtures("toys")
def test_check_that_passes_unexpectedly_fails() -> None:
    with pytest.raises(ConformanceError, match="passed, though expected to fail: by mistake"):
        check_policy(STATIC, expected_failures={**EXPECTED, "holds": "by mistake"})


@pytest.mark.parametrize("door", [check_policy, policy_checks])
def test_unknown_check_is_refused_with_a_suggestion(door: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match=r"no check 'respects_its_caps'\. Did you mean 'respects_its_cap'"):
        door(STATIC, expected_failures={"respects_its_caps": "a slip of the pen"})


@pytest.mark.usefixtures("toys")
def test_pytest_sees_one_test_a_check() -> None:
    made = {param.id: param.values[0] for param in _parameters(policy_checks(STATIC, expected_failures=EXPECTED))}
    assert list(made) == ["holds", "stays_small", "needs_wings"]
    made["holds"]()
    with pytest.raises(pytest.xfail.Exception, match="numbers grow"):
        made["stays_small"]()
    with pytest.raises(pytest.skip.Exception, match="it has no wings"):
        made["needs_wings"]()


@pytest.mark.usefixtures("toys")
def test_pytest_sees_the_example() -> None:
    failing = _parameters(policy_checks(type(STATIC)))[1].values[0]
    with pytest.raises(ConformanceError, match=r"(?s)Static\(\): stays_small: failed.*with:\n *17"):
        failing()


def test_pytest_tests_carry_the_marker() -> None:
    def test_mine(check: Callable[[], None]) -> None:
        check()

    marked = policy_checks(STATIC)(test_mine)
    assert {mark.name for mark in marked.pytestmark} == {"stopkit", "parametrize"}
    assert len(_parameters(policy_checks(STATIC))) == len(POLICY_CHECKS)


def _parameters(decorate: Callable[..., Any]) -> list[Any]:
    def test_mine(check: Callable[[], None]) -> None:
        check()

    (mark,) = (mark for mark in decorate(test_mine).pytestmark if mark.name == "parametrize")
    name, parameters = mark.args
    assert name == "check"
    return list(parameters)


def test_policy_without_defaults_is_given_as_it_is() -> None:
    class Demanding(StoppingPolicy):
        """Needs a field."""

        kind = "demanding"
        length: int

    found = check_policy(
        Demanding(length=2),
        examples=1,
        expected_failures=dict.fromkeys(("describes_every_field", "bounds_every_number"), "a toy"),
    )
    assert {result.verdict for result in found} == {Verdict.PASSED, Verdict.EXPECTED}
