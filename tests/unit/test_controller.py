"""`DraftController` in a loop that is not ours."""

import torch

from stopkit import DraftController, Drawn, load_policy


def loop(policy: str, rounds: int = 20) -> DraftController:
    """Drafts from a fixed q; a rule of thumb accepts."""
    controller = DraftController(load_policy(policy))
    generator = torch.Generator().manual_seed(0)
    for _ in range(rounds):
        block: list[int] = []
        drafting = controller.plan(6)
        while drafting:
            q = torch.softmax(4 * torch.rand(1, 5, generator=generator), -1)
            if drafting := controller.admit(q):
                token = torch.multinomial(q, 1, generator=generator).squeeze(1)
                block.append(int(token))
                drafting = controller.extend(Drawn(token, q[:, token].squeeze(1)))
        controller.learn(sum(token < 3 for token in block))
    return controller


def test_a_static_policy() -> None:
    controller = loop("static:length=4")
    stats = controller.sequences[0]
    assert (stats.rounds, stats.drafted, stats.offered_by_position) == (20, 80, [20, 20, 20, 20])
    assert 0 < stats.accepted < 80


def test_a_cap_beyond_the_limit_is_cut() -> None:
    assert loop("static:length=50").sequences[0].drafted == 20 * 6


def test_a_policy_with_signals_and_state() -> None:
    controller = loop("adaedl:threshold=0.55,max_draft=6")
    stats = controller.sequences[0]
    assert 20 < stats.drafted < 120
    assert controller.state.rows["threshold"].tolist() != [0.55]


def test_nothing_drafted() -> None:
    controller = loop("autoregressive")
    assert controller.sequences[0].as_dict()["drafted"] == 0
    assert controller.sequences[0].rounds == 20
