"""A recorder that is many: the workers of a pool load the models once each and record batch after batch."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

from stopkit.config import load_engine
from stopkit.errors import InputError
from stopkit.trace.pool import Pool
from stopkit.trace.recorder import Identity, Recorder, RecordingRequest, Rollouts, Timings, as_recorder, replaced


@dataclass(frozen=True)
class Batch:
    """Sequences that are sampled side by side."""

    request: RecordingRequest
    places: range
    """Where its prompts are among all."""

    def __str__(self) -> str:
        return f"the sequences {', '.join(map(str, self.request.sequences))}"

    def without(self, done: frozenset[int]) -> Self:
        """The same, with these sequences left out."""
        return replace(self, request=replace(self.request, done=done))


class Worker:
    """Records with the engine of a config block."""

    def __init__(self, engine: Mapping[str, Any]) -> None:
        self._engine = engine

    @cached_property
    def _recorder(self) -> Recorder:
        return as_recorder(load_engine(self._engine))  # what is wrong with it is told by whoever asks for it first

    def begin(self) -> None:
        """Done as soon as it is there."""

    def identity(self) -> Identity:
        """As that of the engine; so are the others."""
        return self._recorder.identity()

    def conditions(self, config: Mapping[str, Any]) -> dict[str, Any]:
        return self._recorder.conditions(**config)

    def timings(self, max_draft: int, length: int) -> Timings:
        return self._recorder.timings(max_draft, length)

    def record(self, batch: Batch) -> Iterator[Rollouts]:
        try:
            yield from self._recorder.record(batch.request)
        except InputError as error:
            raise replaced(error, batch.places) from None


@dataclass(frozen=True)
class Fleet(Recorder):
    """Records on the workers of a pool. Whoever records a sequence, it is the same one."""

    pool: Pool

    @classmethod
    @contextmanager
    def connected(cls, address: str, engine: Mapping[str, Any], workers: int | None = None) -> Iterator[Self]:
        """A fleet with the engine of a config block, on a Ray cluster; errors and arguments are those of the pool."""
        with Pool.connected(address, workers, engine.get("device") == "cpu", Worker, dict(engine)) as pool:
            yield cls(pool)

    def loaded(self) -> dict[str, Any]:
        return {}  # nothing is here; workers tell theirs with their conditions

    def conditions(self, **config: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.pool.ask("conditions", {**config, "workers": self.pool.size})
        return found

    def identity(self) -> Identity:
        found: Identity = self.pool.ask("identity")
        return found

    def timings(self, max_draft: int, length: int = 128) -> Timings:
        found: Timings = self.pool.ask("timings", max_draft, length)
        return found

    def record(self, request: RecordingRequest) -> Iterator[Rollouts]:
        done = set(request.done)
        for _, rollouts in self.pool.run("record", _batches(request), lambda batch: batch.without(frozenset(done))):
            if rollouts.sequence not in done:
                done.add(rollouts.sequence)
                yield rollouts


def _batches(request: RecordingRequest) -> Iterator[Batch]:
    """The request, batch by batch, without those that are done."""
    for first in range(0, len(request.prompts), request.batch_size):
        places = range(first, min(first + request.batch_size, len(request.prompts)))
        part = replace(
            request,
            prompts=[request.prompts[place] for place in places],
            sequences=[request.sequences[place] for place in places],
            seeds=[request.seeds[place] for place in places],
        )
        if not request.done.issuperset(part.sequences):
            yield Batch(part, places)
