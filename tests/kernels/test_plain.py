"""The plain twin of the fused kernel is stopkit's own sampling and signals, with draws exact to 1e-12."""

import pytest
import torch

from stopkit.random import SuppliedUniforms
from stopkit.sampling import Sampling
from stopkit.signals import compute
from stopkit_engines.kernels.plain import fused

SIGNALS = ("entropy", "max_probability", "margin")


@pytest.mark.parametrize("heat", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_is_what_the_engine_computes(heat: float, dtype: torch.dtype) -> None:
    logits = (torch.randn(5, 301, generator=torch.Generator().manual_seed(1)) * 4).to(dtype)
    logits[:, 7:40] = -torch.inf
    uniform = torch.rand(5, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found = fused(logits, torch.tensor(heat, dtype=torch.float64), uniform, with_q=True)
    sampling, everyone = Sampling(temperature=heat), torch.ones(5, dtype=torch.bool)
    q = sampling.probabilities(logits)
    shown = sampling.shown(logits, q)
    wanted = compute(SIGNALS, lambda: shown, logits)
    assert found.q is not None
    assert found.q.equal(q)
    for name in SIGNALS:
        assert getattr(found, name).equal(getattr(wanted, name))
    assert found.token.equal(SuppliedUniforms(uniform).categorical(q, everyone))
    assert found.top.equal(logits.argmax(-1))
    torch.testing.assert_close(found.log_sum.exp(), (logits.to(q.dtype) / (heat or 1)).exp().sum(-1))


def test_the_law_of_draws_is_q_to_1e_12() -> None:
    """Uniforms that close on a boundary from both sides give the tokens on its two sides."""
    logits = torch.randn(1, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).repeat(11, 1)
    heat = torch.tensor(0.7, dtype=torch.float64)
    boundaries = torch.softmax(logits[0] / heat, -1).cumsum(-1)[:-1].unsqueeze(1)
    below, above = (fused(logits, heat, boundaries + side).token for side in (-1e-12, 1e-12))
    assert below.tolist() == list(range(11))
    assert above.tolist() == list(range(1, 12))


def test_what_cannot_be_drawn_from_is_told() -> None:
    logits = torch.zeros(4, 5)
    logits[1, 2], logits[2, 2], logits[3] = torch.nan, torch.inf, -torch.inf
    assert fused(logits, torch.tensor(1.0), torch.full((4, 1), 0.5).double()).log_sum.isfinite().tolist() == [
        True,
        False,
        False,
        False,
    ]
