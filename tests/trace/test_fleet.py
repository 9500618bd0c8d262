"""What a fleet does when workers die, over a Ray that does as it is told. `tests/cluster` has a real one."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from stopkit import GenerationError, InputError, StopkitError
from stopkit.generation import GenerationOptions
from stopkit.trace.fleet import Batch, Fleet, Worker
from stopkit.trace.pool import MOST_DEATHS, Pool, Share
from stopkit.trace.recorder import RecordingRequest

Deed = Callable[[int, int], None]
"""Told who is at work on which sequence; raises what becomes of that."""


class RayError(Exception):
    """A worker is lost."""


class RayTaskError(RayError):
    """A worker has failed, and tells with what."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause


class Method:
    """A method of a worker in another process: what it gives is to be got."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def options(self, **how: Any) -> "Method":
        return self

    def remote(self, *arguments: Any) -> Any:
        return self._call(*arguments)


class Ray:
    """Starts workers that do a deed for every sequence; those of the numbers `stillborn` never begin."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, deed: Deed, stillborn: range = range(0)) -> None:
        self.workers, self.killed = list[SimpleNamespace](), list[SimpleNamespace]()
        self.begun = Counter[int]()
        self._told, self._stillborn = deed, stillborn

    def _deed(self, number: int, sequence: int) -> None:
        self.begun[sequence] += 1
        self._told(number, sequence)

    def remote(self, cls: type) -> Any:
        return SimpleNamespace(options=lambda **room: SimpleNamespace(remote=lambda engine: self._worker()))

    def _worker(self) -> SimpleNamespace:
        number = len(self.workers)

        def record(batch: Batch) -> Iterator[Callable[[], Any]]:
            for sequence in batch.request.sequences:
                if sequence not in batch.request.done:
                    yield lambda sequence=sequence: (self._deed(number, sequence), SimpleNamespace(sequence=sequence))[
                        1
                    ]  # type: ignore[misc]

        def begin() -> Callable[[], None]:
            return lambda: self._deed(number, -1) if number not in self._stillborn else _lose()

        worker = SimpleNamespace(
            begin=Method(begin),
            record=Method(record),
            identity=Method(lambda: lambda: self._deed(number, -2) or number),
        )
        self.workers.append(worker)
        return worker

    def wait(self, waited_for: list[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
        return waited_for[-1:], waited_for[:-1]

    def get(self, promise: Callable[[], Any]) -> Any:
        return promise()

    def kill(self, worker: SimpleNamespace) -> None:
        self.killed.append(worker)


def _lose() -> None:
    raise RayError("lost")


def made(deed: Deed, **more: Any) -> tuple[Fleet, Ray]:
    """A fleet of two workers, and what they run on."""
    ray = Ray(deed, **more)
    return Fleet(Pool(ray, Share(2, 0, 1), Worker, {})), ray


def request(done: frozenset[int] = frozenset()) -> RecordingRequest:
    """Seven prompts in batches of two; their numbers in the recording are odd."""
    return RecordingRequest(
        prompts=["x"] * 7,
        sequences=range(1, 14, 2),
        seeds=range(7),
        options=GenerationOptions(),
        max_draft=4,
        batch_size=2,
        done=done,
    )


def dying(times: int, sequence: int) -> Deed:
    """Whoever is at that sequence dies, so many times."""
    left = [None] * times

    def deed(worker: int, at: int) -> None:
        if at == sequence and left:
            left.pop()
            _lose()

    return deed


def recorded(fleet: Fleet, **more: Any) -> list[int]:
    return [rollouts.sequence for rollouts in fleet.record(request(**more))]


@pytest.mark.parametrize("times", range(MOST_DEATHS))
@pytest.mark.parametrize("sequence", [1, 3, 13])
def test_nothing_is_lost_and_nothing_is_there_twice(times: int, sequence: int) -> None:
    fleet, ray = made(dying(times, sequence))
    assert sorted(recorded(fleet)) == list(range(1, 14, 2))
    assert len(ray.killed) == times
    assert len(ray.workers) == 2 + times
    often = {at: 1 + times * (at == sequence) for at in range(1, 14, 2)}
    assert {at: ray.begun[at] for at in often} == often, "what the dead had finished is not recorded again"


def test_what_is_done_is_left_out() -> None:
    fleet, _ = made(dying(0, 0))
    assert sorted(recorded(fleet, done=frozenset([1, 3, 7]))) == [5, 9, 11, 13]


def test_a_batch_that_kills_is_given_up() -> None:
    fleet, _ = made(dying(MOST_DEATHS, 3))
    with pytest.raises(StopkitError, match=r"^--ray: 3 workers died at the sequences 1, 3: lost$"):
        recorded(fleet)


def test_deaths_with_a_new_sequence_between_do_not_count() -> None:
    deaths = {1: MOST_DEATHS - 1, 3: MOST_DEATHS - 1}

    def deed(worker: int, at: int) -> None:
        if deaths.get(at):
            deaths[at] -= 1
            _lose()

    fleet, ray = made(deed)
    assert sorted(recorded(fleet)) == list(range(1, 14, 2))
    assert len(ray.killed) == 2 * (MOST_DEATHS - 1)


def test_what_a_worker_says_is_said() -> None:
    said = GenerationError("the target's logits are not finite.")

    def deed(worker: int, at: int) -> None:
        if at == 7:
            raise RayTaskError(said)

    fleet, _ = made(deed)
    with pytest.raises(GenerationError) as raised:
        recorded(fleet)
    assert raised.value is said


def test_a_worker_names_a_prompt_by_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(engine: Any, request: RecordingRequest) -> Any:
        raise InputError("prompts[1]: is empty.")

    monkeypatch.setattr("stopkit_engines.eager.EagerEngine.record", refuse)
    with pytest.raises(InputError, match=r"^prompts\[5\]: is empty"):
        list(Worker({"kind": "eager"}).record(Batch(request(), range(4, 6))))


def test_workers_that_never_begin() -> None:
    fleet, ray = made(dying(0, 0), stillborn=range(1))
    assert sorted(recorded(fleet)) == list(range(1, 14, 2))
    assert len(ray.workers) == 3
    fleet, _ = made(dying(0, 0), stillborn=range(99))
    with pytest.raises(StopkitError, match=r"^--ray: workers die as they begin: lost"):
        recorded(fleet)


def test_another_is_asked_if_one_dies() -> None:
    fleet, ray = made(dying(1, -2))
    assert fleet.identity() not in (None, 1)
    assert len(ray.killed) == 1
    fleet, _ = made(dying(MOST_DEATHS, -2))
    with pytest.raises(StopkitError, match=r"^--ray: 3 workers died when asked for their identity: lost"):
        fleet.identity()


def test_jobs_are_taken_as_workers_are_free() -> None:
    taken: list[int] = []

    def jobs() -> Iterator[Batch]:
        for place in range(7):
            taken.append(place)
            yield Batch(replace(request(), sequences=[place]), range(place, place + 1))

    fleet, _ = made(dying(0, 0))
    for finished, _ in enumerate(fleet.pool.run("record", jobs(), lambda job: job)):
        assert len(taken) <= finished + 2
    assert len(taken) == 7
