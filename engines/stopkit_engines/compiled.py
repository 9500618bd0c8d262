"""`compiled`: the eager engine, with forwards that are one call each."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from operator import attrgetter
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import torch
from pydantic import Field, PrivateAttr

from stopkit.coupling import Coupling, Maximal
from stopkit.random import UniformSource
from stopkit.sampling import Sampling
from stopkit_engines.batch.runner import Runner
from stopkit_engines.batch.steps import Steps
from stopkit_engines.eager import EagerEngine
from stopkit_engines.graphs import artefacts, cuda
from stopkit_engines.graphs.artefacts import CannotCompile, Graph, Wanted
from stopkit_engines.graphs.capture import Shape, wanted
from stopkit_engines.graphs.model import GraphModel
from stopkit_engines.graphs.steps import Asked, GraphSteps, Step, asked_for, can_run, wanted_steps
from stopkit_engines.hf import loading
from stopkit_engines.hf.cache import Stored
from stopkit_engines.hf.expected import Differs, Expected
from stopkit_engines.hf.trial import Way, plan_for, require_equal

log = logging.getLogger("stopkit")


class Backend(NamedTuple):
    """How graphs are made on a kind of device."""

    prepare: Callable[[Sequence[Wanted]], None]
    """Does at once for several what is better done so."""
    graph: Callable[[Wanted], Graph]
    """Raises CannotCompile."""
    in_rooms: bool = False
    """Whether caches have to stay where they are."""


def nothing(several: Sequence[Wanted]) -> None:
    """What there is to prepare where graphs are captured as they are called, or not at all."""


PLAIN = Backend(nothing, attrgetter("plain"))
BACKENDS = {"cpu": Backend(artefacts.prepare, artefacts.load), "cuda": Backend(nothing, cuda.captured, in_rooms=True)}
"""By torch's names of devices; elsewhere functions run as they are."""


class CompiledEngine(EagerEngine):
    """The eager engine with forwards, and what surrounds them, compiled for a CPU or captured in CUDA graphs.

    The rest runs as it does there.
    """

    kind: ClassVar[str] = "compiled"
    in_checks: ClassVar[Mapping[str, Any]] = MappingProxyType({"compile": False})

    compile: bool = Field(
        default=True,
        description="compile forwards, or capture them on a GPU; if not, the same functions run as they are",
    )

    _graphs: dict[tuple[str, bool], dict[Shape, Graph]] = PrivateAttr(default_factory=dict)
    """By the engine's field, and whether they are for one row; empty where a model runs without."""
    _graphs_of_steps: dict[Asked, dict[type[Step], Graph]] = PrivateAttr(default_factory=dict)
    """By what they are for; empty where steps run without."""
    _rooms: dict[str, cuda.Rooms] = PrivateAttr(default_factory=dict)
    """Of the caches of each model, by the engine's field."""

    def _runner(self, name: str, vocabulary: int, rows: int, capacity: int, device: torch.device) -> Runner:
        served = self.models.served[name]
        with loading.LOCK:
            if (name, rows == 1) not in self._graphs:
                self._make_graphs(vocabulary, one_row=rows == 1)
        graphs = self._graphs[name, rows == 1]
        if not graphs:
            return served.runner(vocabulary, rows, capacity, device)
        return GraphModel(graphs, served.model, vocabulary, rows, capacity, device, self._place(name))

    def _make_graphs(self, vocabulary: int, one_row: bool) -> None:
        """Have the graphs of all models, for one row or for several."""
        several = {
            field: wanted(f"engine.{field}", served.model, vocabulary, one_row)
            for field, served in self.models.served.items()
            if served.way.ragged
        }
        self._prepare(*(each for graphs in several.values() for each in graphs.values()))
        for field in self.models.served:
            try:
                self._graphs[field, one_row] = self._loaded(field, several.get(field, {}), one_row)
            except (CannotCompile, Differs) as reason:
                self._graphs[field, one_row] = {}
                log.warning("engine.%s runs eagerly: %s.", field, reason)

    def _loaded(self, field: str, several: Mapping[Shape, Wanted], one_row: bool) -> dict[Shape, Graph]:
        """The graphs, which say what the model says. Raises CannotCompile or Differs."""
        served = self.models.served[field]
        if not served.way.ragged:
            raise CannotCompile(f"it runs as {served.way.name}")
        graphs = {shape: self._graph(each) for shape, each in several.items()}
        plan = plan_for(served.model)
        if self.trial != "never" and plan is not None:
            way = Way("compiled", partial(GraphModel, graphs, place=self._place(field)), ragged=not one_row)
            with torch.inference_mode():
                require_equal(served.model, way, Expected(served.model, plan))
        return graphs

    def _steps(self, rows: int, sampling: Sampling, coupling: Coupling, signals: Collection[str]) -> Steps:
        plain = super()._steps(rows, sampling, coupling, signals)
        if not isinstance(coupling, Maximal) or not isinstance(coupling.random, UniformSource) or not can_run(sampling):
            return plain
        ends = len(loading.end_of_sequence(self.models.target))
        asked = asked_for(sampling, signals, self.models.vocabulary, ends, self.models.target.dtype, rows)
        with loading.LOCK:
            if asked not in self._graphs_of_steps:
                several = wanted_steps(asked)
                self._prepare(*several.values())
                try:
                    self._graphs_of_steps[asked] = {kind: self._graph(each) for kind, each in several.items()}
                except CannotCompile as reason:
                    self._graphs_of_steps[asked] = {}
                    log.warning("what surrounds forwards runs eagerly: %s.", reason)
        graphs = self._graphs_of_steps[asked]
        return GraphSteps(graphs, sampling, signals, coupling.random, self.models.target.device) if graphs else plain

    def _prepare(self, *several: Wanted) -> None:
        self._backend.prepare(several)

    def _graph(self, one: Wanted) -> Graph:
        return self._backend.graph(one)

    def _place(self, field: str) -> Callable[[Any, Stored], Stored] | None:
        return self._rooms.setdefault(field, cuda.Rooms()).place if self._backend.in_rooms else None

    @property
    def _backend(self) -> Backend:
        return BACKENDS.get(self.models.target.device.type, PLAIN) if self.compile else PLAIN
