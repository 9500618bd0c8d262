"""`compiled`: the eager engine, with forwards that are one call each."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from operator import attrgetter
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from pydantic import Field, PrivateAttr

from stopkit.coupling import Coupling, Maximal
from stopkit.generation import Request
from stopkit.policy import StoppingPolicy, Verbs
from stopkit.random import SuppliedUniforms, UniformSource
from stopkit.sampling import Sampling
from stopkit.signals import Signals
from stopkit_engines.batch.runner import Runner
from stopkit_engines.batch.steps import Steps
from stopkit_engines.eager import EagerEngine
from stopkit_engines.graphs import artefacts, cuda
from stopkit_engines.graphs.artefacts import CannotCompile, Graph, Wanted
from stopkit_engines.graphs.capture import Shape, wanted
from stopkit_engines.graphs.draft_step import StepGraph, wanted_draft_step
from stopkit_engines.graphs.graph_steps import GraphSteps
from stopkit_engines.graphs.model import GraphModel
from stopkit_engines.graphs.steps import Asked, asked_for, can_run, computed, wanted_steps
from stopkit_engines.graphs.verbs import GraphVerbs, wanted_verbs
from stopkit_engines.hf import generation_config, loading
from stopkit_engines.hf.cache import Stored
from stopkit_engines.hf.expected import Differs, Expected
from stopkit_engines.hf.trial import Way, plan_for, require_equal

log = logging.getLogger("stopkit")

Name = TypeVar("Name")


class Backend(NamedTuple):
    """How graphs are made on a kind of device."""

    prepare: Callable[[Sequence[Wanted]], None]
    """Does at once for several what is better done so."""
    graph: Callable[[Wanted], Graph]
    """Raises CannotCompile."""
    is_ready: Callable[[Wanted], bool] = lambda wanted: True
    """Whether one needs no preparing."""
    of_verbs: bool = False
    """Whether a policy's verbs are worth graphs of their own, for one row."""
    one_row: bool = False
    """Whether a draft step with verbs in it has to be of one row."""
    in_rooms: bool = False
    """Whether caches have to stay where they are."""


def nothing(several: Sequence[Wanted]) -> None:
    """What there is to prepare where graphs are captured as they are called, or not at all."""


PLAIN = Backend(nothing, attrgetter("plain"))
BACKENDS = {
    "cpu": Backend(
        artefacts.prepare, artefacts.load, lambda wanted: wanted.file.is_file(), of_verbs=True, one_row=True
    ),
    "cuda": Backend(nothing, cuda.captured, in_rooms=True),
}
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
    _others: dict[Any, Any] = PrivateAttr(default_factory=dict)
    """Graphs of steps and verbs by what they are for; empty where these run without."""
    _rooms: dict[str, cuda.Rooms] = PrivateAttr(default_factory=dict)
    """Of the caches of each model, by the engine's field."""

    @property
    def _packs(self) -> bool:
        return self.packed and not self.compile  # graphs are captured from plain weights, and have them packed

    def _runner(self, name: str, vocabulary: int, rows: int, capacity: int, device: torch.device) -> Runner:
        served = self.models.served[name]
        with loading.LOCK:
            if (name, rows == 1) not in self._graphs:
                self._make_graphs(one_row=rows == 1)
        graphs = self._graphs[name, rows == 1]
        if not graphs:
            return served.runner(vocabulary, rows, capacity, device)
        return GraphModel(graphs, served.model, vocabulary, rows, capacity, device, self._place(name))

    def _make_graphs(self, one_row: bool) -> None:
        """Have the graphs of all models, for one row or for several."""
        several = self._wanted(one_row)
        self._prepare(*(each for graphs in several.values() for each in graphs.values()))  # side by side
        for field in self.models.served:
            try:
                self._graphs[field, one_row] = self._loaded(field, several.get(field, {}), one_row)
            except (CannotCompile, Differs) as reason:
                self._graphs[field, one_row] = {}
                log.warning("engine.%s runs eagerly: %s.", field, reason)

    def _wanted(self, one_row: bool) -> dict[str, dict[Shape, Wanted]]:
        """By the engine's field."""
        return {
            field: wanted(f"engine.{field}", served.model, self.models.vocabulary_of(field), one_row)
            for field, served in self.models.served.items()
            if served.way.ragged and not served.of_target
        }

    def ready(self) -> bool:
        several = self._wanted(one_row=True).values()
        return all(self._backend.is_ready(each) for graphs in several for each in graphs.values())

    def _loaded(self, field: str, several: Mapping[Shape, Wanted], one_row: bool) -> dict[Shape, Graph]:
        """The graphs, which say what the model says. Raises CannotCompile or Differs."""
        served = self.models.served[field]
        if not served.way.ragged:
            raise CannotCompile(f"it runs as {served.way.name}")
        if served.of_target:
            raise CannotCompile("it keeps what it sees in the target's cache")
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
        asked = self._asked(sampling, computed(signals), self.models.target.dtype, rows)
        graphs = self._made(asked, "what surrounds forwards", lambda: self._compiled(wanted_steps(asked)))
        device = self.models.target.device
        return GraphSteps(graphs, asked.dtype, sampling, signals, coupling.random, device) if graphs else plain

    def _asked(self, sampling: Sampling, signals: Collection[str], dtype: torch.dtype, rows: int) -> Asked:
        ends = len(loading.end_of_sequence(self.models.target))
        return asked_for(sampling, signals, self.models.vocabulary, ends, dtype, rows)

    def verbs(self, policy: StoppingPolicy, request: Request) -> Verbs:
        if request.rows > 1 and self._backend.one_row:
            return policy
        sampling = generation_config.sampled(self.models.target, request.options)
        draft = self.models.draft
        dtype = torch.float32 if draft is None else draft.dtype
        asked = self._asked(sampling, request.signals, dtype, request.rows)
        by_graph = bool(self._graphs.get(("draft", request.rows == 1)))  # known once a decoding has been started
        whole = by_graph and self.models.common is None and can_run(sampling) and not request.logits_processor
        key = (policy.kind, policy.model_dump_json(), asked, whole)
        made = self._made(key, f"policy {policy.kind!r}", lambda: self._verbs_of(policy, asked, whole))
        verbs: Verbs = made.get("verbs", policy)
        return verbs

    def _verbs_of(self, policy: StoppingPolicy, asked: Asked, whole: bool) -> Mapping[str, Verbs]:
        """The verbs, with `whole` draft steps. Raises CannotCompile."""
        signals = self._signals_of_one_step(asked)
        verbs = wanted_verbs(policy, signals) if asked.one_row and self._backend.of_verbs else {}
        steps = [wanted_draft_step(self.models.draft, asked, policy, signals)] if whole else []
        self._prepare(*(each.wanted for each in verbs.values()), *steps)
        graphs = {name: (self._graph(each.wanted), each) for name, each in verbs.items()}
        runs = [StepGraph(self._graph(each), each.plain, self._backend.one_row) for each in steps]
        return {"verbs": GraphVerbs(policy, graphs, *runs)}

    def _signals_of_one_step(self, asked: Asked) -> Signals:
        """In form, for one sequence."""
        model = self.models.draft or self.models.target
        logits = torch.zeros(1, asked.vocabulary, dtype=asked.dtype, device=model.device)
        hidden = logits.new_zeros(1, model.config.get_text_config().hidden_size, dtype=model.dtype)
        steps = Steps(asked.sampling, Maximal(SuppliedUniforms()), asked.signals)
        return steps.propose(logits, torch.ones(1, dtype=torch.bool, device=model.device), hidden).signals

    def _made(self, key: Any, what: str, make: Callable[[], Mapping[Any, Any]]) -> Mapping[Any, Any]:
        """Graphs, which are made once; none where they cannot be."""
        with loading.LOCK:
            if key not in self._others:
                try:
                    self._others[key] = make()
                except CannotCompile as reason:
                    self._others[key] = {}
                    log.warning("%s runs eagerly: %s.", what, reason)
        made: Mapping[Any, Any] = self._others[key]
        return made

    def _compiled(self, several: Mapping[Name, Wanted]) -> dict[Name, Graph]:
        """Raises CannotCompile."""
        self._prepare(*several.values())
        return {name: self._graph(each) for name, each in several.items()}

    def _prepare(self, *several: Wanted) -> None:
        self._backend.prepare(several)

    def _graph(self, one: Wanted) -> Graph:
        return self._backend.graph(one)

    def _place(self, field: str) -> Callable[[Any, Stored], Stored] | None:
        return self._rooms.setdefault(field, cuda.Rooms()).place if self._backend.in_rooms else None

    @property
    def _backend(self) -> Backend:
        return BACKENDS.get(self.models.target.device.type, PLAIN) if self.compile else PLAIN
