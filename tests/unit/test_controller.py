"""`DraftController` in a loop that is not ours."""

import pytest
import torch
from torch import Tensor

from stopkit import DraftController, Drawn, InputError, RoundContext, Signals, State, StoppingPolicy, load_policy
from stopkit.testing import TableModel, assert_distribution_preserved


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


def test_time_spent_in_the_policy_is_settled_every_round() -> None:
    stopwatch = loop("adaedl").stopwatch
    assert 0 < stopwatch.seconds["policy"] < 60
    assert len(stopwatch._open) == 1, "the last round's learn; nothing piles up"


def test_tokens_are_counted() -> None:
    stats = loop("static:length=4").sequences[0]
    assert stats.tokens == stats.accepted + stats.rounds
    assert stats.block_efficiency > 1


class Counting(StoppingPolicy):
    """Remembers how often each row was asked; stops a row by its number."""

    kind = "counting"

    def init(self, batch_size: int, device: torch.device) -> State:
        return State(rows={"asked": torch.zeros(batch_size), "limits": 1.0 + torch.arange(batch_size)})

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        asked = state.rows["asked"] + 1
        return asked <= state.rows["limits"], State(rows={**state.rows, "asked": asked})


def test_a_row_that_stopped_remembers_nothing_of_what_follows() -> None:
    controller = DraftController(Counting(), batch_size=3)
    drafting = controller.plan(5)
    while drafting:
        if drafting := controller.admit(torch.full((3, 2), 0.5)):
            drafting = controller.extend(Drawn(torch.zeros(3, dtype=torch.long), torch.full((3,), 0.5)))
    controller.learn(0)
    assert controller.state.rows["asked"].tolist() == [2, 3, 4]
    assert [sequence.drafted for sequence in controller.sequences] == [1, 2, 3]


class Vandal(StoppingPolicy):
    """Writes into everything that it is shown."""

    kind = "vandal"
    signals = frozenset({"entropy", "logits", "probabilities"})

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        cap = context.limit.clone()
        context.limit.fill_(99)
        context.active.zero_()
        return cap + 5, state

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        position.fill_(7)
        signals.logits.zero_()
        signals.probabilities.fill_(1 / 3)
        return signals.entropy.zero_() == 0, state

    def extend(self, state: State, position: Tensor, signals: Signals, drawn: Drawn) -> tuple[Tensor, State]:
        signals.probabilities.scatter_(1, drawn.token.unsqueeze(1), 1e-6)
        drawn.token.zero_()
        drawn.probability.fill_(1)
        return position.sub_(3) < 0, state


def test_writing_into_what_it_is_shown_does_not_reach_the_engine() -> None:
    generator = torch.Generator().manual_seed(1)
    target, draft = (TableModel.random(3, generator) for _ in range(2))
    assert_distribution_preserved(Vandal(), target, draft, [1], 3, neighbours=[[0, 1]])


def test_a_state_of_another_policy_or_batch_is_refused() -> None:
    adaedl = load_policy("adaedl")
    with pytest.raises(InputError, match="state: is not one of this policy"):
        DraftController(adaedl, state=State())
    with pytest.raises(InputError, match="state: belongs to another number of sequences"):
        DraftController(adaedl, state=adaedl.init(2, torch.device("cpu")))


def test_rows_come_and_go_between_rounds() -> None:
    policy = load_policy("heuristic")
    controller = DraftController(policy, 2)

    def round_(drafts: int, accepted: list[int]) -> None:
        drafting = controller.plan(drafts)
        while drafting := drafting and controller.admit(torch.full((len(accepted), 2), 0.5)):
            zero = torch.zeros(len(accepted))
            drafting = controller.extend(Drawn(zero.long(), zero + 0.5))
        controller.learn(torch.tensor(accepted))

    round_(5, [5, 1])
    assert controller.state.rows["length"].tolist() == [7, 4]
    controller.add(1)
    assert controller.state.rows["length"].tolist() == [7, 4, 5]
    controller.select(torch.tensor([2, 0]))
    round_(5, [0, 5])
    assert controller.state.rows["length"].tolist() == [4, 9]
    assert [sequence.accepted for sequence in controller.sequences] == [0, 10]
    assert [sequence.rounds for sequence in controller.sequences] == [1, 2]
