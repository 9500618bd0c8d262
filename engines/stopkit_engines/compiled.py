"""`compiled`: the eager engine, with forwards that are one call each."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from pydantic import Field, PrivateAttr

from stopkit_engines.batch.runner import Runner
from stopkit_engines.eager import EagerEngine
from stopkit_engines.graphs import artefacts
from stopkit_engines.graphs.artefacts import CannotCompile, Graph, Wanted
from stopkit_engines.graphs.capture import SHAPES, Shape
from stopkit_engines.graphs.model import GraphModel
from stopkit_engines.hf import loading
from stopkit_engines.hf.expected import Differs, Expected
from stopkit_engines.hf.trial import Served, Way, plan_for, require_equal

log = logging.getLogger("stopkit")


class CompiledEngine(EagerEngine):
    """The eager engine with its forwards compiled, on a CPU; what cannot be compiled runs as it does there."""

    kind: ClassVar[str] = "compiled"
    in_checks: ClassVar[Mapping[str, Any]] = MappingProxyType({"compile": False})

    compile: bool = Field(default=True, description="compile forwards; if not, the same functions run as they are")

    _graphs: dict[tuple[str, bool], dict[Shape, Graph]] = PrivateAttr(default_factory=dict)
    """By the engine's field, and whether they are for one row; empty where a model runs without."""

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
        shapes = [shape for shape in SHAPES if shape.one_row == one_row]
        wanted = {
            field: [Wanted(f"engine.{field}", served.model, vocabulary, shape) for shape in shapes]
            for field, served in self.models.served.items()
            if not self._obstacle(served)
        }
        if self.compile:
            artefacts.prepare([each for several in wanted.values() for each in several])
        for field, served in self.models.served.items():
            try:
                self._graphs[field, one_row] = self._loaded(served, wanted.get(field, ()))
            except (CannotCompile, Differs) as reason:
                self._graphs[field, one_row] = {}
                log.warning("engine.%s runs eagerly: %s.", field, reason)

    def _loaded(self, served: Served, wanted: Sequence[Wanted]) -> dict[Shape, Graph]:
        """The graphs, which say what the model says. Raises CannotCompile or Differs."""
        if obstacle := self._obstacle(served):
            raise CannotCompile(obstacle)
        graphs = {each.shape: artefacts.load(each) if self.compile else each.plain for each in wanted}
        plan = plan_for(served.model)
        if self.trial != "never" and plan is not None:
            way = Way("compiled", partial(GraphModel, graphs), ragged=not wanted[0].shape.one_row)
            with torch.inference_mode():
                require_equal(served.model, way, Expected(served.model, plan))
        return graphs

    def _obstacle(self, served: Served) -> str:
        """What is in the way of compiling a model; "" if nothing is."""
        if self.compile and served.model.device.type != "cpu":
            return "graphs are made for CPUs"
        return "" if served.way.ragged else f"it runs as {served.way.name}"
