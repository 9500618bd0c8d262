"""Draft tokens drawn after the output have the joint law of draft tokens drawn before it."""

import pytest
import torch
from torch import Tensor

from stopkit.verification import coupled, next_distribution, survival

CASES, VOCABULARY = 200, 6


def random_distributions(seed: int, kept: float) -> Tensor:
    """[CASES, V] in float64; about `kept` of the tokens of each have probability above zero."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(CASES, VOCABULARY, generator=generator, dtype=torch.float64) ** 4
    possible = torch.rand(CASES, VOCABULARY, generator=generator) < kept
    possible[torch.arange(CASES), torch.randint(VOCABULARY, (CASES,), generator=generator)] = True
    weights = weights.where(possible, 0.0)
    return weights / weights.sum(-1, keepdim=True)


def as_verified(p: Tensor, q: Tensor) -> Tensor:
    """[CASES, V, V]: probability of draft token d and output x when d is drawn from q and verified."""
    both = torch.zeros(CASES, VOCABULARY, VOCABULARY, dtype=torch.float64)
    block_p, block_q = p.unsqueeze(1).expand(-1, 2, -1), torch.stack([q, torch.zeros_like(q)], 1)
    own = next_distribution(block_p, block_q, torch.zeros(CASES, dtype=torch.long))
    for draft in range(VOCABULARY):
        accepted = survival(block_p[:, :1], block_q[:, :1], torch.full((CASES, 1), draft))
        both[:, draft] = q[:, draft, None] * (1 - accepted) * own
        both[:, draft, draft] += q[:, draft] * accepted[:, 0]
    return both


def as_recorded(p: Tensor, q: Tensor) -> Tensor:
    """The same when x is drawn from p, and d coupled to it."""
    outputs = range(VOCABULARY)
    return torch.stack([p[:, x, None] * coupled(p, q, torch.full((CASES,), x)) for x in outputs], -1)


@pytest.mark.parametrize(
    ("p_kept", "q_kept"), [(1.0, 1.0), (0.6, 0.6), (1.0, 0.4), (0.4, 1.0), (0.0, 1.0), (1.0, 0.0), (0.0, 0.0)]
)
def test_the_joint_law_is_that_of_speculative_sampling(p_kept: float, q_kept: float) -> None:
    p, q = random_distributions(1, p_kept), random_distributions(2, q_kept)
    torch.testing.assert_close(as_recorded(p, q), as_verified(p, q), atol=1e-15, rtol=0)


def test_equal_distributions_always_agree() -> None:
    p = random_distributions(3, 0.7)
    for x in range(VOCABULARY):
        draft = coupled(p, p, torch.full((CASES,), x))
        assert (draft[:, x] == 1)[p[:, x] > 0].all()


def test_a_draft_token_that_differs_is_never_the_output() -> None:
    p, q = random_distributions(4, 1.0), random_distributions(5, 1.0)
    for x in range(VOCABULARY):
        draft = coupled(p, q, torch.full((CASES,), x))
        torch.testing.assert_close(draft[:, x], (q[:, x] / p[:, x]).clamp(max=1), atol=1e-15, rtol=0)
