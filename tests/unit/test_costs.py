"""The cost model finds the costs that it was shown, and follows them when they change."""

import pytest
import torch

from stopkit import costs
from stopkit.costs import FixedCosts, RoundTime

CPU = torch.device("cpu")


class CostModel(costs.CostModel):
    """One that is told of draft steps and of verifications apart."""

    def saw_draft_steps(self, seconds: float, steps: int) -> None:
        self.saw_round(RoundTime(0.0, seconds, None), steps, 0)

    def saw_verification(self, seconds: float, drafted: int) -> None:
        self.saw_round(RoundTime(0.0, None, seconds), 0, drafted)


def known(model: CostModel) -> tuple[float, ...]:
    found = model.costs(CPU)
    return tuple(float(cost) for cost in (found.draft_step, found.verify, found.verify_token))


def test_a_line_is_found() -> None:
    model = CostModel()
    for drafted in (0, 3, 1, 5, 2) * 20:
        model.saw_draft_steps(0.002 * (drafted + 1), drafted + 1)
        model.saw_verification(0.01 + 0.0005 * drafted, drafted)
    assert known(model) == pytest.approx((0.002, 0.01, 0.0005), rel=0.02)
    found = model.costs(CPU)
    assert found.verification(torch.tensor([0, 4])).tolist() == pytest.approx([0.01, 0.012], rel=0.01)


def test_a_block_may_cost_more_than_its_tokens() -> None:
    model = CostModel()
    for drafted in (0, 3, 1, 5, 2, 0) * 20:
        model.saw_verification(0.01 + (0.004 + 0.0005 * drafted if drafted else 0), drafted)
    found = model.costs(CPU)
    assert [float(found.verify), float(found.verify_token), float(found.verify_block)] == pytest.approx(
        [0.01, 0.0005, 0.004], rel=0.02
    )
    assert found.verification(torch.tensor([0, 4])).tolist() == pytest.approx([0.01, 0.016], rel=0.01)


def test_blocks_of_one_length_tell_nothing_of_the_slope() -> None:
    model = CostModel()
    for _ in range(5):
        model.saw_verification(0.012, 4)
    assert known(model)[1:] == pytest.approx((0.012, 0.0))


def test_one_slow_round_does_not_tell_the_costs() -> None:
    """Blocks of one token, and one of two that others on the machine made seven times slower."""
    model = CostModel()
    for slow, drafted in [(1, 0), (1, 1), (1, 1), (7, 2)]:
        model.saw_draft_steps(slow * 0.002 * drafted, drafted)
        model.saw_verification(slow * (0.01 + 0.002 * drafted), drafted)
    found = model.costs(CPU)
    assert max(float(found.draft_step), float(found.first_step)) < 0.003
    assert float(found.verify_token) < 0.003
    assert float(found.verification(torch.tensor(1))) < 0.014


def test_what_has_long_not_been_seen_is_forgotten() -> None:
    """Drafting is then as it was before anything was measured."""
    model = CostModel()
    for drafted in [2] + [0] * 2000:
        model.saw_draft_steps(0.005 * drafted, drafted)
        model.saw_verification(0.01 + 0.005 * drafted, drafted)
    assert known(model) == pytest.approx((0.001, 0.01, 0.0))
    assert float(model.costs(CPU).verify_block) == 0.0


def test_old_measurements_fade() -> None:
    model = CostModel()
    for seconds in [0.1] * 50 + [0.01] * 500:
        model.saw_draft_steps(seconds, 1)
    assert known(model)[0] == pytest.approx(0.01, rel=0.01)


def test_what_drafting_cost_fades_without_it() -> None:
    """A machine that was three times slower: after 200 rounds without a block, one that has one counts more than 50."""
    model = CostModel()
    for slow, drafted in [(3, 2)] * 50 + [(1, 0)] * 200 + [(1, 2)]:
        model.saw_draft_steps(slow * 0.002 * drafted, drafted)
        model.saw_verification(slow * (0.01 + 0.002 * drafted), drafted)
    old = sum(CostModel.DECAY**age for age in range(201, 251))
    slowness = (3 * old + 1) / (old + 1)
    assert slowness < 2
    assert known(model)[:2] == pytest.approx((slowness * 0.002, 0.01))
    assert float(model.costs(CPU).verification(torch.tensor(2))) == pytest.approx(slowness * 0.014)


def test_the_first_draft_step_may_have_another_price() -> None:
    """As where a first draft token comes with what is run anyway, and where a first step reads what was accepted."""
    for first in (0.0, 0.003):
        model = CostModel()
        for steps in (3, 1, 5, 2, 0) * 40:
            model.saw_round(RoundTime(1.0, first + 0.002 * (steps - 1) if steps else 0.0, 0.01, first), steps, steps)
        found = model.costs(CPU)
        assert [float(found.first_step), float(found.draft_step)] == pytest.approx([first, 0.002], rel=0.05)
        assert found.drafting(torch.tensor([0, 1, 4])).tolist() == pytest.approx([0, first, first + 0.006], rel=0.05)
        assert float(found.block) == pytest.approx(first - 0.002, rel=0.05)


def test_fixed_costs_have_a_first_step_as_the_others_unless_it_is_given() -> None:
    plain, sunk = FixedCosts(draft_step=0.1, verify=1.0), FixedCosts(draft_step=0.1, verify=1.0, first_step=0.0)
    assert [plain.round(3), sunk.round(3), sunk.round(0)] == pytest.approx([1.3, 1.2, 1.0])
    assert known(CostModel(sunk)) == known(CostModel(plain)) == (0.1, 1.0, 0.0)
    assert float(CostModel(sunk).costs(CPU).block) == pytest.approx(-0.1)


def test_before_anything_is_measured_a_draft_step_is_a_tenth_of_a_target_step() -> None:
    step, verify, token = known(CostModel())
    assert (step / verify, token) == pytest.approx((0.1, 0.0))


def test_fixed_costs_win() -> None:
    model = CostModel(FixedCosts(draft_step=0.001, verify=0.01, verify_token=0.0002))
    model.saw_draft_steps(5.0, 1)
    model.saw_verification(5.0, 3)
    assert known(model) == (0.001, 0.01, 0.0002)
    assert model.round_seconds(3, 2, measured=9.0) == pytest.approx(0.003 + 0.01 + 0.0004)
    assert CostModel().round_seconds(3, 2, measured=9.0) == 9.0
