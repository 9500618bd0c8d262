"""Sequences that come, go and change places in the middle of a generation leave each other's state and decisions be."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from stopkit import DraftController, Drawn, RoundContext, State, StoppingPolicy, load_policy
from stopkit.costs import CostModel, FixedCosts
from stopkit.plugins import registry

LIMIT, VOCABULARY = 8, 5
COSTS = CostModel(FixedCosts(draft_step=0.1, verify=1, verify_token=0.02)).costs(torch.device("cpu"))
APART = {"warmup": {"then": {"kind": "best_length", "carry_over": False}}}
KINDS = sorted(registry().policies)
COUPLED = {"batch_table", "goodput"}
"""Kinds whose rows always matter to each other."""


def apart(kind: str) -> StoppingPolicy:
    """The policy with nothing shared between sequences."""
    own = {"carry_over": False} if "carry_over" in registry().policies[kind].model_fields else {}
    return load_policy({"kind": kind, **own, **APART.get(kind, {})})


def play(controller: DraftController, names: list[int], turn: int) -> list[int]:
    """One round; what happens to a sequence depends on its name and the turn. Returns what each drafted."""
    chance = [torch.Generator().manual_seed(100 * name + turn) for name in names]
    logits = torch.stack([2 * torch.randn(LIMIT, VOCABULARY, generator=one, dtype=torch.float64) for one in chance])
    draws = torch.stack([torch.randint(VOCABULARY, (LIMIT,), generator=one) for one in chance])
    accepted = torch.stack([torch.randint(LIMIT, (), generator=one) for one in chance])
    everyone = torch.ones(len(names), dtype=torch.bool)
    controller.plan(RoundContext(everyone, torch.full((len(names),), LIMIT), COSTS))
    drafted = torch.zeros(len(names), dtype=torch.long)
    for q, token in zip(logits.softmax(-1).unbind(1), draws.unbind(1), strict=True):
        if not controller.live.any() or not controller.admit(q):
            break
        drafted = drafted + controller.live
        controller.extend(Drawn(token, q.gather(1, token.unsqueeze(1)).squeeze(1)))
    controller.learn(torch.minimum(accepted, drafted), 1.0 + turn)
    return drafted.tolist()


def values(state: State, scope: str) -> Iterator[Tensor]:
    """The values of a scope, of the policy and of all that is nested in it."""
    yield from getattr(state, scope).values()
    for part in state.parts:
        yield from values(part, scope)


def test_nearly_every_policy_can_keep_its_sequences_apart() -> None:
    assert {kind for kind in KINDS if apart(kind).couples_rows} == COUPLED


@pytest.mark.parametrize("kind", sorted({*KINDS} - COUPLED))
def test_the_others_go_on_as_if_nothing_had_happened(kind: str) -> None:
    undisturbed, disturbed = DraftController(apart(kind), 4), DraftController(apart(kind), 4)
    names = [0, 1, 2, 3]
    for turn in range(3):
        assert play(undisturbed, names, turn) == play(disturbed, names, turn)
    disturbed.select(torch.tensor([3, 0, 2]))
    disturbed.add(1)
    for turn in range(3, 9):
        alone = play(undisturbed, names, turn)
        assert play(disturbed, [3, 0, 2, 7], turn)[:3] == [alone[3], alone[0], alone[2]], turn
        for old, new in zip(values(undisturbed.state, "rows"), values(disturbed.state, "rows"), strict=True):
            torch.testing.assert_close(new[:3], old[[3, 0, 2]])


@pytest.mark.parametrize("kind", KINDS)
def test_rows_move_and_what_is_shared_stays(kind: str) -> None:
    controller = DraftController(load_policy(kind), 3)
    for turn in range(4):
        play(controller, [0, 1, 2], turn)
    before = controller.state
    controller.select(torch.tensor([2, 1]))
    controller.add(2)
    fresh = controller.policy.init(2, torch.device("cpu"))
    for old, begun, new in zip(*(values(state, "rows") for state in (before, fresh, controller.state)), strict=True):
        assert torch.equal(new, torch.cat([old[[2, 1]], begun]))
    for old, new in zip(*(values(state, "shared") for state in (before, controller.state)), strict=True):
        assert torch.equal(new, old)
    play(controller, [2, 1, 5, 6], 4)
