"""Verification by numbers small enough to check by hand."""

import torch

from stopkit.verification import next_distribution, residual, survival

P = torch.tensor([[[0.8, 0.2], [0.1, 0.9], [0.5, 0.5]]])
Q = torch.tensor([[[0.5, 0.5], [0.4, 0.6], [0.0, 0.0]]])


def test_survival_multiplies_the_acceptance_ratios() -> None:
    torch.testing.assert_close(survival(P, Q, torch.tensor([[1, 0]])), torch.tensor([[0.4, 0.1]]))
    torch.testing.assert_close(survival(P, Q, torch.tensor([[0, 1]])), torch.tensor([[1.0, 1.0]]))


def test_survival_is_zero_past_the_drafted_tokens() -> None:
    q = Q.clone()
    q[:, 1] = 0
    assert survival(P, q, torch.tensor([[0, 1]])).tolist() == [[1.0, 0.0]]


def test_residual() -> None:
    torch.testing.assert_close(residual(P, Q), torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]]))
    torch.testing.assert_close(residual(P[0, 0], P[0, 0]), P[0, 0])


def test_the_bonus_token_comes_from_the_target() -> None:
    assert next_distribution(P, Q, torch.tensor([0])).tolist() == [[1.0, 0.0]]
    assert next_distribution(P, Q, torch.tensor([2])).tolist() == [[0.5, 0.5]]
    assert next_distribution(P[:, :1], Q[:, 2:], torch.tensor([0])).tolist() == P[:, 0].tolist()
