"""A search that is many: the workers of a pool score policies on the sequences that it tunes on."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from stopkit.costs import FixedCosts
from stopkit.policy import StoppingPolicy
from stopkit.trace.pool import Pool
from stopkit.trace.trace import Trace
from stopkit.trace.tuning import Attempt, Scores, Tuning, score


class Worker:
    """Scores on a part of a trace."""

    def __init__(self, part: Trace, costs: Sequence[FixedCosts]) -> None:
        self._part, self._costs = part, costs

    def begin(self) -> None:
        """Done as soon as it is there."""

    def score(self, policy: StoppingPolicy) -> Iterator[float]:
        """The one score of a policy."""
        yield score(self._part, policy, self._costs)


@contextmanager
def scorers(address: str, tuning: Tuning, workers: int | None = None) -> Iterator[Scores]:
    """Scores on a Ray cluster, without its GPUs; errors and arguments are those of the pool."""
    with Pool.connected(address, workers, True, Worker, tuning.parts[0], list(tuning.costs)) as pool:

        def scores(attempts: Iterable[Attempt]) -> Iterator[tuple[Attempt, float]]:
            return pool.run("score", attempts, lambda attempt: attempt.policy)

        yield scores
