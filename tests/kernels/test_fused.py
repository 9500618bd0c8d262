"""The fused kernel says what its plain twin says: by Triton's interpreter without a GPU (`make test-kernels`)."""

from typing import Any

import pytest
import torch
from torch import Tensor

from stopkit_engines.kernels import plain

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SHAPES = [(3, 1), (3, 2), (2, 1025), (9, 5003)]
FIELDS = ("log_sum", "entropy", "max_probability", "margin", "probability")

pytestmark = [pytest.mark.kernels] + ([pytest.mark.gpu] if DEVICE == "cuda" else [])


@pytest.fixture(scope="module")
def fused() -> Any:
    pytest.importorskip("triton")
    from stopkit_engines.kernels.fused import fused

    return fused


def made(kind: str, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(shape[1])) * 3
    if kind == "peaked":
        logits[:, shape[1] // 2] += 40
    if kind == "uniform":
        logits = torch.full(shape, -3.25)
    if kind == "masked":  # a whole chunk and more, and single tokens
        hidden = torch.arange(shape[1]) < shape[1] // 2
        hidden[1::3] = True
        hidden[-1] = False
        logits[:, hidden] = -torch.inf
    return logits.to(dtype).to(DEVICE)


def uniforms(rows: int, seed: int = 0) -> Tensor:
    return torch.rand(rows, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def temperature(value: float) -> Tensor:
    return torch.tensor(value, device=DEVICE)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["random", "peaked", "uniform", "masked"])
@pytest.mark.parametrize("heat", [0.0, 0.7])
def test_says_what_its_twin_says(
    fused: Any, kind: str, shape: tuple[int, int], dtype: torch.dtype, heat: float
) -> None:
    logits, uniform = made(kind, shape, dtype), uniforms(shape[0])
    found = fused(logits, temperature(heat), uniform, with_q=True)
    wanted = plain.fused(logits.double(), temperature(heat), uniform, with_q=True)
    for name in FIELDS[:4]:
        torch.testing.assert_close(getattr(found, name).double(), getattr(wanted, name), rtol=2e-5, atol=2e-5)
    assert found.top.tolist() == wanted.top.tolist()
    torch.testing.assert_close(found.q.double(), wanted.q, rtol=2e-5, atol=1e-9)
    torch.testing.assert_close(found.q.sum(1), torch.ones(shape[0], device=DEVICE), rtol=1e-5, atol=0)
    assert falls_in(wanted.q, found.token, uniform)
    drawn = found.token.unsqueeze(1)
    torch.testing.assert_close(found.probability, found.q.gather(1, drawn).squeeze(1), rtol=2e-5, atol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_large_vocabulary(fused: Any, dtype: torch.dtype) -> None:
    test_says_what_its_twin_says(fused, "random", (1, 262_144), dtype, 0.7)


def falls_in(q: Tensor, token: Tensor, uniform: Tensor) -> bool:
    """Whether each uniform is in its token's piece of the unit interval, whose ends float32 may move a little."""
    upto = q.cumsum(1) / q.sum(1, keepdim=True)
    above = upto.gather(1, token.unsqueeze(1))
    below = above - q.gather(1, token.unsqueeze(1))
    return bool(((below - 1e-5 <= uniform) & (uniform <= above + 1e-5)).all())


@pytest.mark.parametrize("u", [0.0, 0.25, 1 - 2**-53])
def test_a_forbidden_token_is_never_drawn(fused: Any, u: float) -> None:
    logits = made("masked", (9, 5003), torch.float32)
    logits[:, -1] = -torch.inf
    uniform = torch.full((9, 1), u, dtype=torch.float64, device=DEVICE)
    found = fused(logits, temperature(1.0), uniform)
    assert (logits.gather(1, found.token.unsqueeze(1)) > -torch.inf).all()
    assert (found.probability > 0).all()


def test_the_law_of_draws(fused: Any) -> None:
    """Uniforms on a fine grid fall on every token as often as its probability says."""
    logits = (torch.arange(7.0, device=DEVICE) / 3).repeat(64, 1)
    grid = ((torch.arange(64 * 3, dtype=torch.float64, device=DEVICE) + 0.5) / (64 * 3)).view(3, 64, 1)
    drawn = torch.cat([fused(logits, temperature(0.8), uniform).token for uniform in grid])
    shares = drawn.bincount(minlength=7) / len(drawn)
    torch.testing.assert_close(shares, torch.softmax(logits[0] / 0.8, -1), rtol=0, atol=1.5 / len(drawn))


def test_tokens_on_both_sides_of_a_chunk_are_drawn_as_the_others(fused: Any) -> None:
    logits = torch.zeros(7, 3000, device=DEVICE)
    tokens = torch.tensor([[0], [1015], [1023], [1024], [2047], [2048], [2999]], device=DEVICE)
    assert fused(logits, temperature(1.0), (tokens.double() + 0.5) / 3000).token.tolist() == tokens[:, 0].tolist()


@pytest.mark.parametrize("fault", [float("nan"), float("inf"), None])
def test_a_row_without_meaning_is_told(fused: Any, fault: float | None) -> None:
    logits = made("random", (3, 5003), torch.float32)
    if fault is None:
        logits[1] = -torch.inf
    else:
        logits[1, 4999] = fault
    found = fused(logits, temperature(1.0), uniforms(3), with_q=True)
    assert found.log_sum.isfinite().tolist() == [True, False, True]
    assert ((found.token >= 0) & (found.token < 5003)).all()
    alone = fused(logits[[0, 2]], temperature(1.0), uniforms(3)[[0, 2]])
    torch.testing.assert_close(found.entropy[[0, 2]], alone.entropy)


def test_rows_may_lie_apart(fused: Any) -> None:
    logits = made("random", (4, 3000), torch.bfloat16)
    apart = logits.view(2, 2, 3000)[:, 1]
    found, wanted = (fused(each, temperature(1.0), uniforms(2)) for each in (apart, apart.contiguous()))
    assert all(a.equal(b) for a, b in zip(found[:-1], wanted[:-1], strict=True))
