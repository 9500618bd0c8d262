"""The seeded source: right frequencies, never an impossible token, rows that draw on their own."""

import pytest
import torch

from stopkit.random import SeededRandomSource, UniformSource, sequence_seeds

CPU = torch.device("cpu")
EVERY = torch.ones(1, dtype=torch.bool)


def test_categorical_frequencies() -> None:
    p = torch.tensor([[0.0, 0.5, 0.0, 0.3, 0.2, 0.0]])
    rows = 40_000
    source = SeededRandomSource(sequence_seeds(0, rows), CPU)
    drawn = source.categorical(p.expand(rows, -1), torch.ones(rows, dtype=torch.bool))
    found = torch.bincount(drawn, minlength=6) / rows
    torch.testing.assert_close(found, p[0], atol=0.01, rtol=0)
    assert found[[0, 2, 5]].tolist() == [0, 0, 0]


class Fixed(UniformSource):
    """Every uniform is the same."""

    def __init__(self, u: float) -> None:
        self.u = u

    def uniform(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.full((len(rows), 1), self.u, dtype=torch.float64)


@pytest.mark.parametrize("u", [0.0, 0.5, 1 - 2**-53])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_impossible_tokens_are_never_drawn_at_the_edges(u: float, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    for size in (1, 2, 7, 4096):
        p = torch.rand(64, size, dtype=dtype, generator=generator) ** 8
        p = p.where(torch.rand(64, size, generator=generator) < 0.5, 0.0)
        p[:, size // 2] += 1e-3
        p[:, -1:] = 0 if size > 2 else p[:, -1:]
        p = p / p.sum(-1, keepdim=True)
        drawn = Fixed(u).categorical(p, torch.ones(64, dtype=torch.bool))
        assert (p.gather(1, drawn.unsqueeze(1)) > 0).all()


def test_run_lengths() -> None:
    survival = torch.tensor([[0.9, 0.5, 0.5, 0.0]])
    lengths = [int(Fixed(u).run_length(survival, EVERY)) for u in (0.0, 0.49, 0.5, 0.89, 0.9, 0.99)]
    assert lengths == [3, 3, 1, 1, 0, 0]
    assert Fixed(0.3).run_length(survival[:, :0], EVERY).tolist() == [0]


def test_a_row_draws_the_same_whatever_its_neighbours_do() -> None:
    p = torch.full((2, 1000), 1e-3)
    both, first = torch.tensor([True, True]), torch.tensor([True, False])
    together, apart = SeededRandomSource([1, 2], CPU), SeededRandomSource([1, 2], CPU)
    wanted = [int(together.categorical(p, both)[1]) for _ in range(400)]
    found = []
    for draw in range(1200):  # row 1 counts only every third time
        counts = draw % 3 == 0
        token = apart.categorical(p, both if counts else first)
        if counts:
            found.append(int(token[1]))
    assert found == wanted


def test_seeds_of_sequences_do_not_depend_on_batching() -> None:
    seeds = sequence_seeds(7, 10)
    assert seeds == sequence_seeds(7, 4) + sequence_seeds(7, 6, first=4)
    assert len(set(seeds) | set(sequence_seeds(8, 10))) == 20
