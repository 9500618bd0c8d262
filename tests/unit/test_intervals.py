"""Bootstrap intervals hold what they should, pairs are surer than their members, and one sequence tells nothing."""

import pytest
import torch
from torch import Tensor

from stopkit.intervals import Work, interval, resampled, standings

SEQUENCES = 60


def work(rate: Tensor, passes: int = 1) -> Work:
    """Sequences of 100 tokens at these rates."""
    seconds = (100 / rate).unsqueeze(1).expand(-1, passes)
    return Work(torch.full_like(seconds, 100.0), seconds)


def drawn(seed: int, spread: float = 0.3) -> Tensor:
    chance = torch.Generator().manual_seed(seed)
    return (spread * torch.randn(SEQUENCES, generator=chance, dtype=torch.float64)).exp()


def placed(**rates: Tensor) -> dict[str, object]:
    done = {name: work(rate) for name, rate in rates.items()}
    speedups = {name: float(each.tokens.sum() / each.seconds.sum()) for name, each in done.items()}
    return dict(standings(speedups, done, 1.0, list(rates)))


def test_it_covers_the_truth_about_as_often_as_it_says() -> None:
    """The rate is 100 tokens over a mean of log-normal seconds; 95% ± 4 standard errors of 200 binomial draws."""
    truth = 1 / torch.tensor(0.3**2 / 2).exp()
    held = 0
    for seed in range(200):
        low, high = interval(resampled(work(drawn(seed)), 1.0))
        held += low <= truth <= high
    assert 0.95 - 4 * (0.95 * 0.05 / 200) ** 0.5 < held / 200 <= 1


def test_pairs_are_surer_than_their_members() -> None:
    hard = drawn(1)
    found = placed(fast=hard * 1.03, slow=hard)
    assert found["slow"].interval[1] > found["fast"].interval[0], "each for itself they overlap"
    assert found["slow"].of_best == pytest.approx(1 / 1.03)
    assert found["slow"].of_best_interval == pytest.approx((1 / 1.03, 1 / 1.03))
    assert not found["slow"].like_best
    assert found["fast"].like_best


def test_what_differs_by_chance_alone_cannot_be_told_apart() -> None:
    found = placed(one=drawn(2), other=drawn(3))
    assert found["one"].like_best
    assert found["other"].like_best


def test_it_is_the_same_whenever_it_is_asked_for() -> None:
    assert placed(one=drawn(2)) == placed(one=drawn(2))


def test_several_passes_are_paired_with_the_baselines() -> None:
    """A machine that slows down in the second pass slows both down."""
    hard, slower = drawn(4), torch.tensor([1.0, 5.0])
    ours, base = work(hard * 1.5, 2), work(hard, 2)
    ours, base = (Work(each.tokens, each.seconds * slower) for each in (ours, base))
    (found,) = standings({"ours": 1.5}, {"ours": ours}, base, ["ours"]).values()
    assert found.interval == pytest.approx((1.5, 1.5))


def test_one_sequence_tells_nothing_of_others() -> None:
    rate = torch.tensor([1.0], dtype=torch.float64)
    found = standings({"a": 1.0, "b": 0.9}, {"a": work(rate), "b": work(0.9 * rate)}, 1.0, ["a", "b"])
    assert (found["b"].interval, found["b"].of_best_interval, found["b"].of_best) == (None, None, 0.9)
    assert (found["a"].like_best, found["b"].like_best) == (True, False)


def test_without_rivals_nobody_is_the_best() -> None:
    found = standings({"bound": 2.0}, {"bound": work(drawn(5))}, 1.0, [])
    assert (found["bound"].of_best, found["bound"].like_best) == (None, False)


def test_it_leaves_out_as_much_on_either_side() -> None:
    assert interval(torch.arange(1001.0, dtype=torch.float64)) == pytest.approx((25, 975))
