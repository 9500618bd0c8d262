"""The tester is tested: for every check of the conformance kit there is a broken policy that it catches.

Each mutant breaks one thing in a sound policy and names the check that must fail, with words of its message.
"""

import pytest

from stopkit import StoppingPolicy
from stopkit.testing.checks import Check, Verdict
from stopkit.testing.for_policies import POLICY_CHECKS
from tests.meta.broken_policies import MUTANTS, Sound, SoundAndShared

CHECKS: dict[str, Check] = {check.name: check for check in POLICY_CHECKS}


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_caught(name: str) -> None:
    check, words, cls = MUTANTS[name]
    result = CHECKS[check].run(cls())
    assert result.verdict == Verdict.FAILED
    assert words in result.reason


@pytest.mark.parametrize("cls", [Sound, SoundAndShared], ids=lambda cls: cls.kind)
@pytest.mark.parametrize("check", POLICY_CHECKS, ids=lambda check: check.name)
def test_unbroken_policy_passes(check: Check, cls: type[StoppingPolicy]) -> None:
    result = check.run(cls())
    shared_by_intent = check.name == "shares_only_what_it_declares" and cls is SoundAndShared
    assert result.verdict == (Verdict.SKIPPED if shared_by_intent else Verdict.PASSED), result


def test_every_check_has_a_mutant() -> None:
    assert {check for check, *_ in MUTANTS.values()} == CHECKS.keys()
