"""`DraftController` in a loop that is not ours."""

from typing import Any

import pytest
import torch
from torch import Tensor

from stopkit import (
    DraftController,
    Drawn,
    InputError,
    RoundContext,
    RoundOutcome,
    Signals,
    State,
    StoppingPolicy,
    load_policy,
)
from stopkit.costs import FixedCosts, RoundTime
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


# Sequences that leave and come back, by their names.


def go(controller: DraftController, drafts: int, accepted: list[int], **said: Any) -> None:
    """A round in which every row drafts `drafts` tokens."""
    rows = len(accepted)
    drafting = controller.plan(drafts)
    while drafting := drafting and controller.admit(torch.full((rows, 2), 0.5)):
        drafting = controller.extend(Drawn(torch.zeros(rows, dtype=torch.long), torch.full((rows,), 0.5)))
    controller.learn(torch.tensor(accepted), **said)


def test_a_sequence_comes_back_with_its_counts_and_state() -> None:
    controller = DraftController(load_policy("heuristic"), batch_size=0)
    controller.seat(["a", "b"])
    go(controller, 5, [5, 1])
    controller.seat(["c", "b"])
    assert controller.state.rows["length"].tolist() == [5, 4]
    go(controller, 3, [3, 0])
    controller.seat(["b", "a", "d"])
    assert list(controller.ids) == ["b", "a", "d"]
    assert controller.state.rows["length"].tolist() == [3, 7, 5]
    assert [sequence.rounds for sequence in controller.sequences] == [2, 1, 0]
    assert [sequence.drafted for sequence in controller.sequences] == [8, 5, 0]
    everyone = ["a", "b", "c", "d", "e"]
    assert [sequence.accepted for sequence in controller.statistics_of(everyone)] == [5, 1, 3, 0, 0]
    assert controller.state_of(everyone).rows["length"].tolist() == [7, 3, 7, 5, 5]
    assert list(controller.ids) == ["b", "a", "d"], "asking seats nobody"


def test_what_is_shared_is_there_for_whoever_comes() -> None:
    controller = DraftController(load_policy("adaedl:carry_over=true,max_draft=3"), batch_size=0)
    controller.seat([1])
    before = float(controller.state["threshold"])
    go(controller, 3, [0])
    learned = float(controller.state["threshold"])
    assert learned != before
    controller.seat([2])
    assert float(controller.state["threshold"]) == learned
    go(controller, 3, [0])
    controller.seat([1])
    assert float(controller.state["threshold"]) not in (before, learned), "it is not as it was when 1 left"


def test_sequences_that_ended_are_forgotten() -> None:
    controller = DraftController(load_policy("heuristic"), batch_size=0)
    controller.seat("abc")
    go(controller, 2, [2, 1, 0])
    controller.seat("ab")
    assert [counts.accepted for counts in controller.forget(["c", "a"])] == [0, 2]
    assert list(controller.ids) == ["b"]
    assert controller.state.rows["length"].tolist() == [4]
    with pytest.raises(InputError, match="forget: 'c' is none of the sequences"):
        controller.forget(["c"])
    with pytest.raises(InputError, match="forget: 'b' is there twice"):
        controller.forget(["b", "b"])
    controller.seat("bc")
    assert [counts.rounds for counts in controller.sequences] == [1, 0], "c begins anew"


def test_a_name_is_one_sequence() -> None:
    with pytest.raises(InputError, match="seat: a name is there twice"):
        DraftController(load_policy("static"), 0).seat([1, 2, 1])


@pytest.mark.parametrize("policy", ["static", "adaedl", "goodput", "bandit", "best_length:carry_over=false"])
def test_nobody_is_a_batch_too(policy: str) -> None:
    controller = DraftController(load_policy(policy), batch_size=0)
    assert not controller.plan(5)
    controller.learn(torch.zeros(0, dtype=torch.long))
    controller.add(0)
    controller.select(torch.tensor([]))
    controller.select(torch.tensor([], dtype=torch.long))
    controller.seat([])
    controller.add(2)
    go(controller, 2, [1, 0])
    assert [sequence.rounds for sequence in controller.sequences] == [1, 1]
    controller.select(torch.tensor([]))
    assert controller.sequences == []
    assert not controller.plan(5)


def test_numbers_of_new_rows_are_unused() -> None:
    controller = DraftController(load_policy("heuristic"), 2)
    controller.seat([1, 5])
    controller.add(2)
    assert len(set(controller.ids)) == 4
    assert 0 not in controller.ids, "0 has left, and may come back"
    controller.select(torch.tensor([1, 1]))
    assert len(set(controller.ids)) == 2


# What became of the blocks elsewhere.


def test_a_block_that_was_cut_counts_as_what_was_verified() -> None:
    controller = DraftController(load_policy("heuristic"), 2)
    go(controller, 5, [3, 3], drafted=torch.tensor([3, 5]))
    assert [sequence.drafted for sequence in controller.sequences] == [3, 5]
    assert [sequence.offered_by_position for sequence in controller.sequences] == [[1] * 3, [1] * 5]
    assert controller.state.rows["length"].tolist() == [7, 4], "a cut block that was accepted was accepted whole"


def test_a_row_without_a_part_learns_and_counts_nothing() -> None:
    controller = DraftController(load_policy("heuristic"), 3)
    go(controller, 4, [4, 0, 0], took_part=torch.tensor([True, False, True]))
    assert [sequence.rounds for sequence in controller.sequences] == [1, 0, 1]
    assert [sequence.drafted for sequence in controller.sequences] == [4, 0, 4]
    assert controller.state.rows["length"].tolist() == [7, 5, 4]


def test_a_sequence_by_itself_may_have_no_part() -> None:
    controller = DraftController(load_policy("heuristic"))
    go(controller, 4, [0], took_part=torch.tensor([False]))
    assert controller.state.rows["length"].tolist() == [5]
    assert controller.sequences[0].rounds == 0


class Witness(StoppingPolicy):
    """Keeps what it learns from."""

    kind = "witness"

    def model_post_init(self, context: object) -> None:
        SEEN.clear()

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        SEEN.append(outcome)
        return state


SEEN: list[RoundOutcome] = []


def test_what_is_learned_of_a_round_that_was_cut() -> None:
    controller = DraftController(Witness(), 3)
    go(controller, 4, [2, 9, 1], drafted=torch.tensor([2, 9, 4]), took_part=torch.tensor([True, False, True]))
    outcome = SEEN[-1]
    assert outcome.context.active.tolist() == [True, False, True]
    assert outcome.drafted.tolist() == [2, 0, 4]


@pytest.mark.parametrize(
    ("accepted", "drafted"), [([5, 0], None), ([-1, 0], None), ([3, 0], [2, 4]), ([0, 0], [5, 4])], ids=str
)
def test_more_than_was_drafted_cannot_be(accepted: list[int], drafted: list[int] | None) -> None:
    controller = DraftController(load_policy("static"), 2)
    with pytest.raises(InputError, match=r"learn: row 0 drafted 4 tokens, so"):
        go(controller, 4, accepted, **({"drafted": torch.tensor(drafted)} if drafted else {}))
    assert [sequence.rounds for sequence in controller.sequences] == [0, 0]


def test_how_many_tokens_each_row_has_drafted() -> None:
    controller = DraftController(Counting(), 3)
    assert controller.drafted.tolist() == [0, 0, 0]
    drafting = controller.plan(5)
    lengths = []
    while drafting and controller.admit(torch.full((3, 2), 0.5)):
        drafting = controller.extend(Drawn(torch.zeros(3, dtype=torch.long), torch.full((3,), 0.5)))
        lengths.append(controller.drafted.tolist())
    assert lengths == [[1, 1, 1], [1, 2, 2], [1, 2, 3]]


def test_calls_out_of_turn_are_refused() -> None:
    controller = DraftController(load_policy("static"))
    with pytest.raises(InputError, match="no round is under way; call plan first"):
        controller.learn(0)
    go(controller, 1, [0])
    with pytest.raises(InputError, match="no round is under way"):
        controller.learn(0)
    controller.plan(1)
    controller.seat(["another"])
    with pytest.raises(InputError, match="no round is under way"):
        controller.learn(0)


# Costs, in a loop that is not ours.


class Clock:
    """Stands still unless it is told to go on."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stopped = Clock()
    monkeypatch.setattr("stopkit.statistics.time.perf_counter", stopped)
    return stopped


def timed(controller: DraftController, clock: Clock, rounds: int, drafts: int, step: float, verify: float) -> None:
    """Rounds of a loop that does not say what it takes."""
    for _ in range(rounds):
        drafting = controller.plan(drafts)
        while drafting:
            clock.now += step
            if drafting := controller.admit(torch.full((1, 2), 0.5)):
                clock.now += 0.001  # drawing
                drafting = controller.extend(Drawn(torch.zeros(1, dtype=torch.long), torch.full((1,), 0.5)))
        clock.now += verify
        controller.learn(int(controller.drafted[0]))


def test_a_foreign_loop_learns_its_costs_by_the_clock(clock: Clock) -> None:
    controller = DraftController(load_policy("static:length=3"))
    timed(controller, clock, 20, 3, step=0.02, verify=0.05)
    timed(controller, clock, 20, 0, step=0.02, verify=0.04)
    costs = controller.costs.costs(torch.device("cpu"))
    assert float(costs.draft_step) == pytest.approx(0.02)
    assert float(costs.verify) == pytest.approx(0.04)
    assert float(costs.verification(torch.tensor(3))) == pytest.approx(0.05)
    spent = controller.stopwatch.so_far()
    assert spent["draft"] == pytest.approx(20 * 3 * 0.02)
    assert spent["verify"] == pytest.approx(20 * 0.05 + 20 * 0.04)
    assert spent["other"] == pytest.approx(20 * 3 * 0.001)


def test_rounds_that_read_a_prompt_teach_no_costs(clock: Clock) -> None:
    controller = DraftController(load_policy("static:length=3"))
    timed(controller, clock, 1, 3, step=9.0, verify=9.0)
    timed(controller, clock, 1, 3, step=0.02, verify=0.05)
    controller.seat(["next"])
    timed(controller, clock, 1, 3, step=9.0, verify=9.0)
    assert float(controller.context(3).costs.draft_step) == pytest.approx(0.02)


@pytest.mark.parametrize(("step", "drafts"), [(0.001, True), (0.5, False)])
def test_goodput_decides_by_real_costs_in_a_foreign_loop(clock: Clock, step: float, drafts: bool) -> None:
    controller = DraftController(load_policy("goodput"))
    timed(controller, clock, 60, 8, step, verify=0.1)
    late = controller.sequences[0].drafted
    timed(controller, clock, 30, 8, step, verify=0.1)
    drafted = (controller.sequences[0].drafted - late) / 30
    assert drafted > 3 if drafts else drafted < 0.5


def test_a_loop_may_say_what_its_rounds_took() -> None:
    controller = DraftController(Witness())
    for _ in range(9):
        go(controller, 3, [1], seconds=RoundTime(whole=0.9, draft=0.3, verify=None))
    assert float(controller.context(3).costs.draft_step) == pytest.approx(0.1)
    assert float(controller.context(3).costs.verify) == 1.0, "nothing is known of it"
    assert float(SEEN[-1].seconds) == 0.9
    go(controller, 3, [1], seconds=5.0)
    assert float(SEEN[-1].seconds) == 5.0
    assert float(controller.context(3).costs.draft_step) == pytest.approx(0.1)


def test_nothing_piles_up_in_a_loop_that_says_what_its_rounds_took() -> None:
    controller = DraftController(load_policy("static"))
    for _ in range(50):
        go(controller, 3, [1], seconds=0.5)
    assert len(controller.stopwatch._open) == 1


def test_fixed_costs_are_what_a_round_took() -> None:
    costs = FixedCosts(draft_step=0.1, verify=1.0, verify_token=0.01)
    controller = DraftController(Witness(), costs=costs)
    go(controller, 3, [1])
    assert float(SEEN[-1].seconds) == pytest.approx(0.3 + 1.03)
    assert float(SEEN[-1].context.costs.draft_step) == 0.1
