"""Algorithm 1 of the AdaEDL paper, computed by hand, and the threshold rule around it."""

from typing import Any

import pytest
import torch

from stopkit import Costs, Drawn, RoundContext, RoundOutcome, Signals, State, ThresholdPolicy, load_policy
from stopkit.threshold import MovingThreshold

CPU = torch.device("cpu")


def context(rows: int = 1, limit: int = 100) -> RoundContext:
    cost = torch.ones((), dtype=torch.float64)
    return RoundContext(
        active=torch.ones(rows, dtype=torch.bool), limit=torch.full((rows,), limit), costs=Costs(cost, cost, cost)
    )


def outcome(drafted: list[int], accepted: list[int]) -> RoundOutcome:
    return RoundOutcome(
        context=context(len(drafted)),
        drafted=torch.tensor(drafted),
        accepted=torch.tensor(accepted),
        seconds=torch.zeros((), dtype=torch.float64),
    )


def after(policy: MovingThreshold, *rounds: tuple[int, int]) -> tuple[float, float]:
    state = policy.init(1, CPU)
    for drafted, accepted in rounds:
        state = policy.learn(state, outcome([drafted], [accepted]))
    return float(state.rows["threshold"]), float(state.rows["acceptance_rate"])


HAND = [
    # rounds of (drafted, accepted) with L = 4; λ and AR afterwards
    ([], 0.7, 0.9),
    ([(4, 4)], 0.7, 0.95),  # AR = .5·.9 + .5·1 = .95 ≥ α, accepted = L: λ stays
    ([(4, 2)], 0.701, 0.7),  # AR = .7 < α: λ' = λ + .01, λ = .9·λ + .1·λ'
    ([(2, 2)], 0.699, 0.95),  # AR ≥ α, accepted ≠ L: λ falls
    ([(0, 0)], 0.7, 0.9),  # nothing drafted teaches nothing
    ([(1, 0)], 0.701, 0.45),
    ([(4, 2), (4, 4)], 0.702, 0.85),  # AR = .5·.7 + .5 = .85 < α still: λ rises although all was accepted
    ([(4, 2), (4, 4), (4, 4), (3, 3)], 0.701, 0.9625),  # AR .925, then .9625: stays, then falls
    ([(4, 0), (0, 0), (4, 4)], 0.702, 0.725),
]


@pytest.mark.parametrize(("rounds", "threshold", "rate"), HAND)
def test_algorithm_1_by_hand(rounds: list[tuple[int, int]], threshold: float, rate: float) -> None:
    policy = load_policy("adaedl:threshold=0.7,max_draft=4")
    assert isinstance(policy, ThresholdPolicy)
    assert after(policy, *rounds) == pytest.approx((threshold, rate), abs=1e-6)


DRAFT_AND_VERIFY = [
    # as above, with L = 8 and AR = 0 to begin with: three perfect rounds still raise λ
    ((8, 8), 0.501, 0.5),
    ((8, 8), 0.502, 0.75),
    ((8, 8), 0.503, 0.875),
    ((8, 8), 0.503, 0.9375),  # AR ≥ α, drafted = L: λ stays
    ((4, 4), 0.502, 0.96875),  # AR ≥ α, drafted ≠ L: λ falls
    ((8, 7), 0.502, 0.921875),  # drafted = L although accepted ≠ L: λ stays
    ((0, 0), 0.502, 0.921875),
    ((8, 0), 0.503, 0.4609375),
]


def test_draft_and_verify_by_hand() -> None:
    policy = load_policy(
        "drawn_probability:update=algorithm1,distribution=untempered,threshold=0.5,max_draft=8,"
        "controller={full='drafted',initial_acceptance_rate=0}"
    )
    assert isinstance(policy, MovingThreshold)
    for count, (_, threshold, rate) in enumerate(DRAFT_AND_VERIFY, 1):
        rounds = [counts for counts, _, _ in DRAFT_AND_VERIFY[:count]]
        assert after(policy, *rounds) == pytest.approx((threshold, rate), abs=1e-6), rounds


def test_the_constants_are_parameters() -> None:
    policy = load_policy(
        {
            "kind": "max_probability",
            "threshold": 0.5,
            "max_draft": 4,
            "update": "algorithm1",
            "controller": {
                "alpha": 0.5, "epsilon": 0.2, "beta1": 0.0, "beta2": 0.5, "initial_acceptance_rate": 0.1,
            },
        }
    )  # fmt: skip
    assert isinstance(policy, ThresholdPolicy)
    assert after(policy) == pytest.approx((0.5, 0.1))
    assert after(policy, (4, 1)) == pytest.approx((0.6, 0.25))
    assert after(policy, (4, 3)) == pytest.approx((0.4, 0.75))


def test_a_fixed_threshold_learns_nothing() -> None:
    policy = load_policy("max_probability")
    assert isinstance(policy, ThresholdPolicy)
    assert after(policy, (4, 0), (4, 4)) == after(policy)


def test_rows_learn_apart() -> None:
    policy = load_policy("adaedl:threshold=0.7,max_draft=4")
    state = policy.learn(policy.init(3, CPU), outcome([4, 4, 0], [4, 1, 0]))
    assert state.rows["threshold"].tolist() == pytest.approx([0.7, 0.701, 0.7])


@pytest.mark.parametrize(
    ("entropy", "passes"), [(0.0, True), (0.44, True), (0.46, False), (3.0, False)]
)  # 1 − sqrt(.2·H) ≥ .7 ⇔ H ≤ .45
def test_adaedl_tests_the_entropy(entropy: float, passes: bool) -> None:
    policy = load_policy("adaedl:threshold=0.7")
    signals = Signals(entropy=torch.tensor([entropy]))
    state = policy.init(1, CPU)
    assert policy.admit(state, torch.tensor([1]), signals)[0].tolist() == [passes]
    assert policy.admit(state, torch.tensor([0]), signals)[0].tolist() == [True], "min_draft is 1"


def test_include_and_exclude() -> None:
    unsure = Signals(max_probability=torch.tensor([0.1]))
    drawn = Drawn(torch.tensor([5]), torch.tensor([0.1]))
    positions = [torch.tensor([position]) for position in range(4)]

    def decide(**fields: Any) -> tuple[list[bool], list[bool]]:
        policy = load_policy({"kind": "max_probability", "min_draft": 2, **fields})
        state = policy.init(1, CPU)
        admits = [bool(policy.admit(state, position, unsure)[0]) for position in positions]
        return admits, [bool(policy.extend(state, position, unsure, drawn)[0]) for position in positions]

    assert decide(stop_token="exclude") == ([True, True, False, False], [True] * 4)
    assert decide(stop_token="include") == ([True] * 4, [True, False, False, False])


def test_a_new_rule_is_a_kind_its_signals_and_a_score() -> None:
    class Margin(ThresholdPolicy):
        kind = "margin_of_mine"
        signals = frozenset({"margin"})

        def score(self, signals: Signals) -> torch.Tensor:
            return signals.margin

    policy = Margin(threshold=0.2)
    state: State = policy.init(2, CPU)
    admitted, _ = policy.admit(state, torch.tensor([1, 1]), Signals(margin=torch.tensor([0.1, 0.3])))
    assert admitted.tolist() == [False, True]
    cap, _ = policy.plan(state, context(rows=2, limit=3))
    assert cap.tolist() == [3, 3]
