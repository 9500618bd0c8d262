"""`guard` keeps its promise over every window, whatever is accepted; it costs a good policy little, and comes back."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from stopkit import DraftController, Drawn, Signals, load_policy
from stopkit.costs import FixedCosts, Prices

FLOOR, WINDOW, LIMIT = 0.97, 256, 12
INSIDE: list[Any] = ["static:length=8", "static:length=1", "max_probability:min_draft=0,threshold=0.5"]


def played(inside: Any, costs: FixedCosts, accepted: Tensor, **fields: Any) -> tuple[Tensor, Tensor]:
    """Tokens and target steps of every round, [rounds, B] each, of sequences that know nothing of each other.

    At most `accepted` [rounds, B] is accepted; half of all positions look unpromising.
    """
    rows = accepted.shape[1]
    policy = load_policy({"kind": "guard", "policy": inside, "carry_over": False, **fields})
    controller = DraftController(policy, rows, costs=costs)
    chance, tokens, steps = torch.Generator().manual_seed(0), [], []
    for fate in accepted:
        asked, drafting = torch.zeros(rows), controller.plan(LIMIT)
        while drafting:
            asked += controller.live
            sure = torch.rand(rows, generator=chance)
            if drafting := controller.admit(Signals(max_probability=sure)):
                drafting = controller.extend(Drawn(torch.zeros(rows, dtype=torch.long), torch.ones(rows)))
        drafted, kept = controller.drafted.double(), torch.minimum(controller.drafted, fate)
        seconds = costs.draft_step * asked.double() + Prices.verification(costs, 0) + costs.verify_token * drafted
        seconds = seconds + costs.verify_block * (drafted > 0)
        controller.learn(kept, seconds)
        tokens.append(kept + 1)
        steps.append(seconds / costs.verify)
    return torch.stack(tokens).double(), torch.stack(steps)


def slowest(tokens: Tensor, steps: Tensor, window: float) -> float:
    """The least tokens per target step over all windows of at least so many target steps, whoever's."""
    found = float("inf")
    for gained, took in zip(tokens.unbind(1), steps.unbind(1), strict=True):
        all_tokens, all_steps = (torch.cat([torch.zeros(1), each.cumsum(0)]) for each in (gained, took))
        for begin in range(len(gained)):
            long = all_steps - all_steps[begin] >= window
            rates = (all_tokens - all_tokens[begin])[long] / (all_steps - all_steps[begin])[long]
            found = min([found, *rates.tolist()])
    return found


def fates(rounds: int) -> Tensor:
    """What is accepted at most, [rounds, B]: by luck that changes after 1, 40 and 250 rounds, from none to all."""
    chance = torch.Generator().manual_seed(1)
    columns = []
    for period, luck in itertools.product((1, 40, 250), (0, 1, 2, 4, 12)):
        lucky = (torch.arange(rounds) // period) % 2 == 0
        columns.append(torch.randint(0, 1 + luck, (rounds,), generator=chance) * lucky)
    return torch.stack(columns, 1)


@pytest.mark.parametrize("inside", INSIDE)
@pytest.mark.parametrize("draft_step", [0.02, 0.4])
def test_it_is_never_much_slower(inside: Any, draft_step: float) -> None:
    costs = FixedCosts(draft_step=draft_step, verify=2.0, verify_token=0.1, verify_block=0.3)
    assert slowest(*played(inside, costs, fates(600)), WINDOW) >= FLOOR - 1e-9


def test_without_it_the_same_rule_is() -> None:
    costs = FixedCosts(draft_step=0.4, verify=2.0, verify_token=0.1)
    assert slowest(*played("static:length=8", costs, fates(300), floor=0.5, window=1e6), WINDOW) < 0.5


def test_the_window_and_the_floor_are_the_users() -> None:
    costs = FixedCosts(draft_step=0.3, verify=1.0)
    done = played("static:length=6", costs, torch.zeros(400, 1, dtype=torch.long), floor=0.9, window=60)
    assert 0.9 - 1e-9 <= slowest(*done, 60) < 0.95, "it makes use of what it is allowed"


def test_a_draft_that_pays_is_used() -> None:
    costs = FixedCosts(draft_step=0.1, verify=1.0)
    tokens, _ = played("static:length=4", costs, torch.full((50, 1), 4))
    assert tokens.eq(5).all()


def test_a_useless_draft_is_tried_seldom_and_a_good_one_found_again() -> None:
    costs = FixedCosts(draft_step=0.2, verify=1.0)
    fate = torch.where(torch.arange(600) < 500, 0, LIMIT).unsqueeze(1)
    tokens, steps = played("static:length=4", costs, fate)
    assert 0 < (steps[200:500] > 1).double().mean() < 0.1
    assert tokens[550:].mean() > 4.5


def test_prompts_and_pauses_are_not_the_policys_fault() -> None:
    controller = DraftController(load_policy("guard"), costs=FixedCosts(draft_step=0.1, verify=1.0))
    full = controller.state["purse"].clone()
    for _ in range(5):
        drafting = controller.plan(LIMIT)
        while drafting and controller.admit(Signals()):
            drafting = controller.extend(Drawn(torch.zeros(1, dtype=torch.long), torch.ones(1)))
        controller.learn(int(controller.drafted), 50.0)
    assert torch.equal(controller.state["purse"], full)
