"""The promise itself: no policy changes the target's output distribution, by enumeration of the real engine."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stopkit import StoppingPolicy
from stopkit.plugins import registry
from stopkit.testing import assert_distribution_preserved
from stopkit.testing.strategies import Case, cases, policies
from tests.exact.adversarial import ADVERSARIAL

EVERY_POLICY = [*registry().policies.values(), *ADVERSARIAL]


@pytest.mark.parametrize("cls", EVERY_POLICY, ids=lambda cls: cls.kind)
@settings(max_examples=150)
@given(data=st.data())
def test_distribution_is_preserved(cls: type[StoppingPolicy], data: st.DataObject, proof: list[float]) -> None:
    case: Case = data.draw(cases())
    policy = data.draw(policies(cls))
    proof.append(
        assert_distribution_preserved(
            policy,
            case.target,
            case.draft,
            case.prompt,
            case.horizon,
            neighbours=case.neighbours,
            tolerance=1e-12,
            **case.sampling,
        )
    )
