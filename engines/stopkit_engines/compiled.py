"""`compiled`: the eager engine, with forwards that are one call each."""

import logging
from collections.abc import Callable, Collection, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

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
from stopkit_engines.graphs import artefacts
from stopkit_engines.graphs.artefacts import CannotCompile, Graph, Wanted
from stopkit_engines.graphs.capture import Shape, wanted
from stopkit_engines.graphs.model import GraphModel
from stopkit_engines.graphs.steps import GraphSteps, asked_for, can_run, wanted_steps
from stopkit_engines.graphs.trees import form, leaves
from stopkit_engines.graphs.verbs import GraphVerbs, graphs_of
from stopkit_engines.hf import loading
from stopkit_engines.hf.expected import Differs, Expected
from stopkit_engines.hf.trial import Served, Way, plan_for, require_equal

log = logging.getLogger("stopkit")

Name = TypeVar("Name")


class CompiledEngine(EagerEngine):
    """The eager engine with forwards, and what surrounds them, compiled for a CPU; the rest runs as it does there.

    On a GPU the same functions run as they are.
    """

    kind: ClassVar[str] = "compiled"
    in_checks: ClassVar[Mapping[str, Any]] = MappingProxyType({"compile": False})

    compile: bool = Field(default=True, description="compile forwards; if not, the same functions run as they are")

    _graphs: dict[tuple[str, bool], dict[Shape, Graph]] = PrivateAttr(default_factory=dict)
    """By the engine's field, and whether they are for one row; empty where a model runs without."""
    _others: dict[Any, Any] = PrivateAttr(default_factory=dict)
    """Graphs of steps and verbs by what they are for; empty where these run without."""

    @property
    def _packs(self) -> bool:
        return self.packed and not self.compile  # graphs are captured from plain weights, and have them packed

    def _runner(self, name: str, vocabulary: int, rows: int, capacity: int, device: torch.device) -> Runner:
        served = self.models.served[name]
        with loading.LOCK:
            if (name, rows == 1) not in self._graphs:
                self._make_graphs(vocabulary, one_row=rows == 1)
        graphs = self._graphs[name, rows == 1]
        if not graphs:
            return served.runner(vocabulary, rows, capacity, device)
        return GraphModel(graphs, served.model, vocabulary, rows, capacity, device)

    def _make_graphs(self, vocabulary: int, one_row: bool) -> None:
        """Have the graphs of all models, for one row or for several."""
        several = self._wanted(vocabulary, one_row)
        self._prepare(*(each for graphs in several.values() for each in graphs.values()))  # side by side
        for field, served in self.models.served.items():
            try:
                self._graphs[field, one_row] = self._loaded(served, several.get(field, {}), one_row)
            except (CannotCompile, Differs) as reason:
                self._graphs[field, one_row] = {}
                log.warning("engine.%s runs eagerly: %s.", field, reason)

    def _wanted(self, vocabulary: int, one_row: bool) -> dict[str, dict[Shape, Wanted]]:
        """By the engine's field."""
        return {
            field: wanted(f"engine.{field}", served.model, vocabulary, one_row)
            for field, served in self.models.served.items()
            if served.way.ragged
        }

    def ready(self) -> bool:
        several = self._wanted(self.models.vocabulary, one_row=True).values()
        return not self._compiles or all(each.file.is_file() for graphs in several for each in graphs.values())

    def _loaded(self, served: Served, several: Mapping[Shape, Wanted], one_row: bool) -> dict[Shape, Graph]:
        """The graphs, which say what the model says. Raises CannotCompile or Differs."""
        if not served.way.ragged:
            raise CannotCompile(f"it runs as {served.way.name}")
        graphs = {shape: self._graph(each) for shape, each in several.items()}
        plan = plan_for(served.model)
        if self.trial != "never" and plan is not None:
            way = Way("compiled", partial(GraphModel, graphs), ragged=not one_row)
            with torch.inference_mode():
                require_equal(served.model, way, Expected(served.model, plan))
        return graphs

    def _steps(self, rows: int, sampling: Sampling, coupling: Coupling, signals: Collection[str]) -> Steps:
        plain = super()._steps(rows, sampling, coupling, signals)
        if not isinstance(coupling, Maximal) or not isinstance(coupling.random, UniformSource) or not can_run(sampling):
            return plain
        ends = len(loading.end_of_sequence(self.models.target))
        asked = asked_for(sampling, signals, self.models.vocabulary, ends, self.models.target.dtype, rows)
        graphs = self._made(asked, "what surrounds forwards", lambda: self._compiled(wanted_steps(asked)))
        return GraphSteps(graphs, asked.dtype, sampling, signals, coupling.random) if graphs else plain

    def verbs(self, policy: StoppingPolicy, request: Request) -> Verbs:
        device = self.models.target.device
        if request.rows > 1 or device.type != "cpu":
            return policy
        signals = self._signals_of_one_step(request)
        key = (policy.kind, policy.model_dump_json(), tuple(map(form, leaves(signals))))
        graphs = self._made(key, f"policy {policy.kind!r}", lambda: graphs_of(policy, signals, device, self._compiled))
        return GraphVerbs(policy, graphs)

    def _signals_of_one_step(self, request: Request) -> Signals:
        """In form, for one sequence."""
        draft = self.models.draft
        model = self.models.target if draft is None else draft
        logits = torch.zeros(1, self.models.vocabulary, dtype=torch.float32 if draft is None else draft.dtype)
        hidden = logits.new_zeros(1, model.config.get_text_config().hidden_size)
        steps = Steps(request.options, Maximal(SuppliedUniforms()), request.signals)
        return steps.propose(logits, torch.ones(1, dtype=torch.bool), hidden).signals

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
        if self._compiles:
            artefacts.prepare(several)

    def _graph(self, one: Wanted) -> Graph:
        return artefacts.load(one) if self._compiles else one.plain

    @property
    def _compiles(self) -> bool:
        return self.compile and self.models.target.device.type == "cpu"
