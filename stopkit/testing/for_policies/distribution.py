"""The promise that speculative decoding makes: the output is the target's, whatever the policy decides."""

from stopkit.policy import StoppingPolicy
from stopkit.testing.checks import Draw
from stopkit.testing.exact import assert_distribution_preserved
from stopkit.testing.strategies import cases


def preserves_the_output_distribution(policy: StoppingPolicy, draw: Draw) -> None:
    """Over every random choice that the engine can make, the output has the target's distribution, to 1e-12."""
    case = draw(cases())
    assert_distribution_preserved(
        policy, case.target, case.draft, case.prompt, case.horizon, neighbours=case.neighbours, **case.sampling
    )
