"""Every policy that is registered keeps every promise, with its default fields and with others that matter."""

import pytest

from stopkit import ScalarPolicy, StoppingPolicy, load_policy
from stopkit.plugins import registry
from stopkit.testing.checks import Verdict
from stopkit.testing.kit import check_policy, policy_checks
from tests.exact.adversarial import EntropyInverted, Erratic, Gossip, Greedy, Periodic, TokenDependent

FEW = 15
"""Examples of a check for a kind with its default fields."""
FEWER = 6
"""For other fields of a kind that is checked by itself."""
SETTINGS = [
    "acceptance_head:threshold=0.7,min_draft=0",
    "adaedl:carry_over=true",
    "adaedl:stop_token=include,min_draft=0",
    "autoregressive",
    "batch_table:table={1={0=3,40=1},3=2}",
    "bandit:algorithm=hedge",
    "bandit:carry_over=false",
    "bandit:carry_over=false,algorithm=hedge",
    "best_length:carry_over=false,max_draft=3,probe_every=2",
    "drawn_probability:distribution=untempered,update=algorithm1",
    "drawn_probability:update=roc",
    "drawn_probability:update=roc,carry_over=true",
    "ema_length:lengths=[0,1,3],warmup=0,update_every=1",
    "ema_length:carry_over=false,warmup=1,update_every=2",
    "first_of:policies=['bandit','svip',{kind='capped',policy='all_of'}]",
    "entropy_gate:low=0.1,high=0.2",
    "guard:carry_over=false,window=1000",
    "guard:policy=goodput,floor=0.9",
    "guard:policy={kind='first_of',policies=['svip','ratio_ucb']}",
    "heuristic:carry_over=true",
    "ratio_ucb:carry_over=false,max_draft=3",
    "staircase:in_a_row=1,carry_over=true",
    "staircase:in_a_row=2,bias=1",
    "per_position:policies={0='ema_length',3={kind='warmup',rounds=1}}",
    "warmup:first='joint_confidence',then='bandit',rounds=2,carry_over=true",
]
"""Fields that choose another mechanism, or another scope of what is learned."""
ON_THE_HOST = {
    "compiles_without_a_break",
    "decides_on_the_device_of_the_engine",
    "decides_without_waiting_for_the_device",
}
LOOSE_FIELDS = {
    "describes_every_field": "a policy of the tests",
    "bounds_every_number": "its seed may be any number",
}


@pytest.mark.parametrize("spec", [*registry().policies, *SETTINGS])
def test_registered_policy_conforms(spec: str) -> None:
    policy, examples = load_policy(spec), FEWER if spec in SETTINGS else FEW
    skipped = {result.check for result in check_policy(policy, examples=examples) if result.verdict == Verdict.SKIPPED}
    assert skipped == ({"shares_only_what_it_declares"} if policy.couples_rows else set())


@pytest.mark.parametrize("cls", [EntropyInverted, Gossip, Greedy], ids=lambda cls: cls.kind)
def test_bad_advice_conforms(cls: type[StoppingPolicy]) -> None:
    check_policy(cls, examples=FEW)


@pytest.mark.parametrize("policy", [Erratic(seed=3), TokenDependent()], ids=lambda policy: policy.kind)
def test_bad_manners_are_expected(policy: StoppingPolicy) -> None:
    reasons = LOOSE_FIELDS if isinstance(policy, Erratic) else {"describes_every_field": "a policy of the tests"}
    check_policy(policy, expected_failures=reasons, examples=FEW)


@policy_checks(Periodic, examples=FEW)
def test_scalar_policy(check) -> None:
    check()


def test_scalar_policy_is_excused_from_tensors_only() -> None:
    assert issubclass(Periodic, ScalarPolicy)
    found = check_policy(Periodic, examples=1)
    assert {result.check for result in found if result.verdict == Verdict.SKIPPED} == ON_THE_HOST
