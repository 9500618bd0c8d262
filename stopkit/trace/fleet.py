"""A recorder that is many: workers of a Ray cluster, with an accelerator each if the cluster has any.

A worker loads the models once and records batch after batch. Each sequence comes back as soon as it is whole; of a
worker that dies nothing is lost but the sequence that it was at, which another records.
"""

import logging
import signal
import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

from stopkit.config import load_engine
from stopkit.errors import InputError, StopkitError, one_line
from stopkit.trace.recorder import Identity, Recorder, RecordingRequest, Rollouts, Timings, as_recorder, replaced

LOG = logging.getLogger(__name__)
MOST_DEATHS = 3
"""How often workers may die over a batch without a new sequence of it, before it is given up."""


class Share(NamedTuple):
    """How many workers a cluster has room for, and what each of them gets."""

    workers: int
    gpus: int
    cpus: int

    @classmethod
    def of(cls, machines: list[Mapping[str, float]], workers: int | None, on_cpu: bool) -> Self:
        """A worker a GPU; without GPUs, or `on_cpu`, one a machine. `machines` are what each has of CPU and GPU.

        Raises InputError if there are fewer GPUs than `workers`.
        """
        gpus = 0 if on_cpu else int(sum(machine.get("GPU", 0) for machine in machines))
        if gpus:
            if (workers or gpus) > gpus:
                raise InputError(f"--workers: are {workers}, and the cluster has {gpus} GPUs, of which each takes one.")
            return cls(workers or gpus, 1, 1)
        count = workers or len(machines)
        together = -(-count // len(machines))  # on the machine that has most of them
        return cls(count, 0, max(1, int(min(machine.get("CPU", 0) for machine in machines)) // together))


class Worker:
    """What a worker does, in a process of its own."""

    def __init__(self, engine: Mapping[str, Any]) -> None:
        self._engine = load_engine(engine)

    def begin(self) -> None:
        """Done as soon as it is there."""

    def identity(self) -> Identity:
        """As that of its engine; so are the others."""
        return as_recorder(self._engine).identity()

    def conditions(self, config: Mapping[str, Any]) -> dict[str, Any]:
        return as_recorder(self._engine).conditions(**config)

    def timings(self, max_draft: int, length: int) -> Timings:
        return as_recorder(self._engine).timings(max_draft, length)

    def record(self, request: RecordingRequest) -> Iterator[Rollouts]:
        yield from as_recorder(self._engine).record(request)


class Batch(NamedTuple):
    """Sequences that are sampled side by side."""

    number: int
    request: RecordingRequest
    places: range
    """Where its prompts are among all."""

    def __str__(self) -> str:
        return f"the sequences {', '.join(map(str, self.request.sequences))}"


@dataclass
class Fleet(Recorder):
    """Records with the engine of a config block, on the workers of the Ray cluster that this process is connected to.

    Whoever records a sequence, it is the same one.
    """

    engine: Mapping[str, Any]
    workers: int | None = None
    """How many; unset, one for each GPU, or for each machine where there is none."""
    _starting: dict[Any, Any] = field(default_factory=dict)
    """Workers that have not begun, by what they will say when they have."""
    _idle: list[Any] = field(default_factory=list)
    _stillborn: int = 0

    @classmethod
    @contextmanager
    def connected(cls, address: str, engine: Mapping[str, Any], workers: int | None = None) -> Iterator[Self]:
        """A fleet on the cluster at `address`; `auto` is the one that this machine belongs to, `local` one of its own.

        Raises InputError without Ray, if there is no cluster, or for more workers than the cluster has GPUs.
        """
        ray = _ray()
        try:
            with _own_handler():
                ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # Ray raises errors of any kind over an address
            raise InputError(f"--ray: {address}: no cluster can be reached: {one_line(error)}") from None
        try:
            fleet = cls(engine, workers)
            fleet._begin()
            yield fleet
        finally:
            ray.shutdown()

    def _begin(self) -> None:
        machines = [node["Resources"] for node in _ray().nodes() if node["Alive"]]
        self._share = Share.of(machines, self.workers, self.engine.get("device") == "cpu")
        for _ in range(self._share.workers):
            self._start()

    def _start(self) -> None:
        """One more worker, where and as soon as there is room for it."""
        share, remote = self._share, _ray().remote(Worker)
        room = {"num_gpus": share.gpus, "num_cpus": share.cpus, "scheduling_strategy": "SPREAD"}
        worker = remote.options(**room).remote(dict(self.engine))
        self._starting[worker.begin.remote()] = worker

    def _began(self, said: Any) -> None:
        """Take in a worker that has begun, or failed to."""
        worker = self._starting.pop(said)
        try:
            _ray().get(said)
        except _errors().RayTaskError as error:
            raise error.cause from None
        except _errors().RayError as error:
            self._stillborn += 1
            if self._stillborn > MOST_DEATHS:
                raise StopkitError(f"--ray: workers die as they begin: {one_line(error)}") from None
            self._start()
        else:
            self._idle.append(worker)

    def _replace(self, worker: Any, doing: str) -> None:
        LOG.info("A worker died, %s; another one begins.", doing)
        _ray().kill(worker)  # it may be alive, and cut off
        self._start()

    def loaded(self) -> dict[str, Any]:
        return {}  # nothing is here; the workers tell theirs with their conditions

    def conditions(self, **config: Any) -> dict[str, Any]:
        found: dict[str, Any] = self._ask("conditions", {**config, "workers": self._share.workers})
        return found

    def identity(self) -> Identity:
        found: Identity = self._ask("identity")
        return found

    def timings(self, max_draft: int, length: int = 128) -> Timings:
        found: Timings = self._ask("timings", max_draft, length)
        return found

    def _ask(self, method: str, *arguments: Any) -> Any:
        """What one of the workers says; the next one if it dies."""
        ray, errors = _ray(), _errors()
        for _ in range(MOST_DEATHS):
            while not self._idle:
                self._began(ray.wait(list(self._starting), num_returns=1)[0][0])
            try:
                return ray.get(getattr(self._idle[0], method).remote(*arguments))
            except errors.RayTaskError as error:
                raise error.cause from None
            except errors.RayError as error:
                reason = one_line(error)
                self._replace(self._idle.pop(0), f"asked for its {method}")
        raise StopkitError(f"--ray: {MOST_DEATHS} workers died when asked for their {method}: {reason}")

    def record(self, request: RecordingRequest) -> Iterator[Rollouts]:
        ray, errors, waiting = _ray(), _errors(), deque(_batches(request))
        done, deaths = set(request.done), Counter[int]()
        at_work: dict[Any, tuple[Any, Batch]] = {}
        while waiting or at_work:
            while waiting and self._idle:
                worker, batch = self._idle.pop(), waiting.popleft()
                left = replace(batch.request, done=frozenset(done))
                at_work[worker.record.options(num_returns="streaming").remote(left)] = worker, batch
            said = ray.wait([*at_work, *self._starting], num_returns=1)[0][0]
            if said in self._starting:
                self._began(said)
                continue
            worker, batch = at_work[said]
            try:
                rollouts: Rollouts = ray.get(next(said))
            except StopIteration:
                self._idle.append(at_work.pop(said)[0])
            except errors.RayTaskError as error:
                cause = error.cause
                raise (replaced(cause, batch.places) if isinstance(cause, InputError) else cause) from None
            except errors.RayError as error:
                del at_work[said]
                deaths[batch.number] += 1
                if deaths[batch.number] == MOST_DEATHS:
                    raise StopkitError(f"--ray: {MOST_DEATHS} workers died at {batch}: {one_line(error)}") from None
                waiting.append(batch)
                self._replace(worker, f"at {batch}")
            else:
                if rollouts.sequence not in done:
                    done.add(rollouts.sequence)
                    deaths[batch.number] = 0
                    yield rollouts


def _batches(request: RecordingRequest) -> Iterator[Batch]:
    """The request, batch by batch."""
    for number, first in enumerate(range(0, len(request.prompts), request.batch_size)):
        places = range(first, min(first + request.batch_size, len(request.prompts)))
        part = replace(
            request,
            prompts=[request.prompts[place] for place in places],
            sequences=[request.sequences[place] for place in places],
            seeds=[request.seeds[place] for place in places],
        )
        if not request.done.issuperset(part.sequences):
            yield Batch(number, part, places)


@contextmanager
def _own_handler() -> Iterator[None]:
    """Keeps what is to be done upon SIGTERM as it was: Ray would end the process."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():  # which alone has handlers
        signal.signal(signal.SIGTERM, before)


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise InputError("--ray: Ray is not installed; `pip install 'stopkit[ray]'`.") from None
    return ray


def _errors() -> Any:
    from ray import exceptions

    return exceptions
