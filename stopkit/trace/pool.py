"""Workers on a Ray cluster: objects of a class in processes of their own, with an accelerator each if there are any.

Jobs go to whoever is free, and what they give comes back piece by piece. Of a worker that dies nothing is lost but the
piece that it was at: another one begins, and the job goes to whoever is free.
"""

import logging
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Self, TypeVar

from stopkit.errors import InputError, StopkitError, one_line

LOG = logging.getLogger(__name__)
MOST_DEATHS = 3
"""How often workers may die over a job without a new piece of it, before it is given up."""
Job = TypeVar("Job")


class Share(NamedTuple):
    """How many workers there are, and what each of them gets."""

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


class Pool:
    """Workers that `make` makes: a class with a method `begin`, done as soon as it is there, and its arguments."""

    def __init__(self, ray: Any, share: Share, make: type, *arguments: Any) -> None:
        self.size = share.workers
        """How many there are to be."""
        self._ray = ray
        room = {"num_gpus": share.gpus, "num_cpus": share.cpus, "scheduling_strategy": "SPREAD"}
        self._make: Callable[[], Any] = lambda: ray.remote(make).options(**room).remote(*arguments)
        self._starting: dict[Any, Any] = {}  # by what they will say when they have begun
        self._idle: list[Any] = []
        self._stillborn = 0
        for _ in range(self.size):
            self._start()

    @classmethod
    @contextmanager
    def connected(cls, address: str, workers: int | None, on_cpu: bool, make: type, *arguments: Any) -> Iterator[Self]:
        """A pool on the cluster at `address`; `auto` is the one that this machine belongs to, `local` one of its own.

        Raises InputError without Ray, if there is no cluster, or for more workers than the cluster has GPUs.
        """
        ray = _ray()
        try:
            with _own_handler():
                ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # Ray raises errors of any kind over an address
            raise InputError(f"--ray: {address}: no cluster can be reached: {one_line(error)}") from None
        try:
            machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            yield cls(ray, Share.of(machines, workers, on_cpu), make, *arguments)
        finally:
            ray.shutdown()

    def ask(self, method: str, *arguments: Any) -> Any:
        """What one of the workers answers; the next one if it dies.

        Raises what the method raises, and StopkitError if too many die.
        """
        for _ in range(MOST_DEATHS):
            while not self._idle:
                self._began(self._ray.wait(list(self._starting), num_returns=1)[0][0])
            try:
                return self._ray.get(getattr(self._idle[0], method).remote(*arguments))
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except self._ray.exceptions.RayError as error:
                reason = one_line(error)
                self._replace(self._idle.pop(0), f"asked for its {method}")
        raise StopkitError(f"--ray: {MOST_DEATHS} workers died when asked for their {method}: {reason}")

    def run(self, method: str, jobs: Iterable[Job], left: Callable[[Job], Any]) -> Iterator[tuple[Job, Any]]:
        """Each job with every piece that `method` yields for it, given what is `left` of it at that time.

        A job is taken when a worker is free for it, so that `jobs` may depend on what came back before. Raises
        what the method raises, and StopkitError if too many die over one job.
        """
        lost, deaths = deque[tuple[int, Job]](), Counter[int]()
        fresh = enumerate(jobs)
        at_work: dict[Any, tuple[Any, int, Job]] = {}
        while True:
            while self._idle and (taken := lost.popleft() if lost else next(fresh, None)):
                worker, (number, job) = self._idle.pop(), taken
                pieces = getattr(worker, method).options(num_returns="streaming").remote(left(job))
                at_work[pieces] = worker, number, job
            if not at_work and self._idle:
                return
            said = self._ray.wait([*at_work, *self._starting], num_returns=1)[0][0]
            if said in self._starting:
                self._began(said)
                continue
            worker, number, job = at_work[said]
            try:
                piece = self._ray.get(next(said))
            except StopIteration:
                del at_work[said]
                self._idle.append(worker)
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except self._ray.exceptions.RayError as error:
                del at_work[said]
                deaths[number] += 1
                if deaths[number] == MOST_DEATHS:
                    raise StopkitError(f"--ray: {MOST_DEATHS} workers died at {job}: {one_line(error)}") from None
                lost.append((number, job))
                self._replace(worker, f"at {job}")
            else:
                deaths[number] = 0
                yield job, piece

    def _start(self) -> None:
        """One more worker, where and as soon as there is room for it."""
        worker = self._make()
        self._starting[worker.begin.remote()] = worker

    def _began(self, said: Any) -> None:
        """Take in a worker that has begun, or failed to."""
        worker = self._starting.pop(said)
        try:
            self._ray.get(said)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self._ray.exceptions.RayError as error:
            self._stillborn += 1
            if self._stillborn > MOST_DEATHS:
                raise StopkitError(f"--ray: workers die as they begin: {one_line(error)}") from None
            self._start()
        else:
            self._idle.append(worker)

    def _replace(self, worker: Any, doing: str) -> None:
        LOG.info("A worker died, %s; another one begins.", doing)
        self._ray.kill(worker)  # it may be alive, and cut off
        self._start()


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
