"""The one seam through which randomness enters an engine."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from stopkit.errors import InputError


class RandomSource(ABC):
    """Three kinds of draw. `rows` (bool [B]) says for which rows a draw counts; the others get a value without meaning.

    Rows draw independently: what a row gets depends on how often that row has drawn, not on its neighbours.
    """

    @abstractmethod
    def categorical(self, probabilities: Tensor, rows: Tensor) -> Tensor:
        """A token per row, [B] long, from `probabilities` [B, V]; never one of probability zero."""

    @abstractmethod
    def run_length(self, survival: Tensor, rows: Tensor) -> Tensor:
        """Accepted tokens per row, [B] long, with P(length ≥ k) = survival[:, k − 1]; survival is [B, K]."""

    def race(self, probabilities: Tensor, places: Sequence[int], rows: Tensor, first: int = 0) -> Tensor:
        """Tokens [B, C] from `probabilities` [B, C, V]: in each column the i with the smallest E_i / p_i.

        E is exponential noise that a row has for every place of its output, column c of row b being at place
        `places[b] + first + c`. It is the same whenever that place is asked for, and tokens of one distribution are the
        same. A row does not ask again for what is before its `places[b]`.
        """
        raise InputError(f"random: {type(self).__name__} has no noise for places; generate with the maximal coupling.")

    def seat(self, row: int, sequence: int) -> None:
        """Let `row` draw for the sequence of that number from now on; at first row b draws for sequence b."""
        raise InputError(
            f"random: {type(self).__name__} cannot change sequences; give as many prompts as decode side by side, or "
            "a source that overrides seat."
        )


class UniformSource(RandomSource):
    """Draws by one uniform each."""

    @abstractmethod
    def uniform(self, rows: Tensor) -> Tensor:
        """The next uniform of each row, [B, 1] float64 below 1; only the `rows` (bool [B]) use theirs up."""

    def categorical(self, probabilities: Tensor, rows: Tensor) -> Tensor:
        # Inverse CDF in float64. u ≤ 1 − 2⁻⁵³, so u·total rounds below total, and the first index whose cumulative
        # value exceeds it has probability above zero.
        cumulative = probabilities.cumsum(-1, dtype=torch.float64)
        return torch.searchsorted(cumulative, self.uniform(rows) * cumulative[:, -1:], right=True).squeeze(1)

    def run_length(self, survival: Tensor, rows: Tensor) -> Tensor:
        return (survival > self.uniform(rows)).sum(-1)


class SuppliedUniforms(UniformSource):
    """Uniforms [B, 1] that are given, in the order of the draws."""

    def __init__(self, *uniforms: Tensor) -> None:
        self._left = iter(uniforms)

    def uniform(self, rows: Tensor) -> Tensor:
        return next(self._left)


class SeededRandomSource(UniformSource):
    """A torch.Generator per row, read ahead into a table of uniforms; one uniform a draw. Races have their own.

    `seeds` are those of all sequences, the first `rows` of which begin; all of them if unset.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device, rows: int | None = None) -> None:
        self._seeds = seeds
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds[:rows]]
        self._device = device
        self._uniforms = torch.empty(len(self._generators), 0, dtype=torch.float64, device=device)
        self._next = torch.zeros(len(self._generators), 1, dtype=torch.long, device=device)
        self._draws = 0  # of all rows together, at most
        self._seated = [0] * len(self._generators)  # draws before a row's sequence began
        self._sequences = list(range(len(self._generators)))
        self._noise: list[dict[int, Tensor]] = [{} for _ in self._generators]

    def race(self, probabilities: Tensor, places: Sequence[int], rows: Tensor, first: int = 0) -> Tensor:
        columns, vocabulary = probabilities.shape[1:]
        noise = []
        for row, begin in enumerate(places):
            wanted = range(begin + first, begin + first + columns)
            known = {place: each for place, each in self._noise[row].items() if place >= begin}
            known |= {place: self._exponential(row, place, vocabulary) for place in wanted if place not in known}
            self._noise[row] = known
            noise.append(torch.stack([known[place] for place in wanted]))
        return (torch.stack(noise) / probabilities).where(probabilities > 0, torch.inf).argmin(-1)

    def _exponential(self, row: int, place: int, vocabulary: int) -> Tensor:
        seed = sequence_seeds(self._seeds[self._sequences[row]], 1, place)[0]
        uniform = torch.rand(vocabulary, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        return -torch.log1p(-uniform).to(self._device)

    def seat(self, row: int, sequence: int) -> None:
        self._sequences[row], self._noise[row] = sequence, {}
        self._generators[row] = torch.Generator().manual_seed(self._seeds[sequence])
        self._uniforms[row] = self._fresh(row, self._uniforms.shape[1])
        self._next[row] = 0
        self._seated[row] = self._draws

    def uniform(self, rows: Tensor) -> Tensor:
        u = self.ahead()
        self.use(rows)
        return u

    def ahead(self) -> Tensor:
        """The uniform that each row draws by next, [B, 1] float64 below 1; it is used up by `use`."""
        if self._draws - min(self._seated) == self._uniforms.shape[1]:
            self._read_ahead(max(256, self._uniforms.shape[1]))
        self._draws += 1
        return self._uniforms.gather(1, self._next)

    def use(self, rows: Tensor) -> None:
        """Let `rows` (bool [B]) have drawn by what is `ahead`."""
        self._next = self._next + rows.unsqueeze(1)

    def _read_ahead(self, count: int) -> None:
        fresh = [self._fresh(row, count) for row in range(len(self._generators))]
        self._uniforms = torch.cat([self._uniforms, torch.stack(fresh)], dim=1)

    def _fresh(self, row: int, count: int) -> Tensor:
        return torch.rand(count, dtype=torch.float64, generator=self._generators[row]).to(self._device)


def sequence_seeds(seed: int, count: int, first: int = 0) -> list[int]:
    """Seeds for sequences `first` … `first + count − 1` of a run: far apart, and the same however a run is batched."""
    return [
        int.from_bytes(hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=7).digest(), "big")
        for index in range(first, first + count)
    ]
