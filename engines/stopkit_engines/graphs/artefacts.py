"""Compiled graphs on disk: made once for a model and a machine, several at a time, and found again by what they are."""

import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from torch import Tensor
from torch.export import ExportedProgram

import stopkit
from stopkit.errors import one_line
from stopkit.hashing import hash_of_json
from stopkit_engines import batch, graphs, hf
from stopkit_engines.graphs import sources, worker

log = logging.getLogger("stopkit")

Graph = Callable[..., Sequence[Tensor]]
"""Of tensors, always of the dtypes and layouts that it was captured with; gives several."""


class CannotCompile(Exception):
    """A model cannot be captured, or its graph not be compiled; says why."""


class Use(NamedTuple):
    """What a function does with its inputs, by their numbers."""

    written: int | None = None
    """It writes to this tensor, which is its caller's."""
    kept: int | None = None
    """From this one on they are kept where they are: read and written there, and never copied."""
    span: int | None = None
    """These are the places [W] of the tokens that it is about; there may be more of them, in front."""


class Wanted(NamedTuple):
    """A graph that is wanted."""

    name: str
    """What users are told that it is of."""
    about: Callable[[], Mapping[str, Any]]
    """What it depends on besides code and machine, ready for JSON; asked for only where it is compiled."""
    plain: Any
    """What is captured, as it is: a `Graph` that says by `use` what it does with its inputs."""
    capture: Callable[[], ExportedProgram]
    """Raises whatever torch raises over what it cannot capture."""
    options: Mapping[str, Any]
    """How Inductor compiles it."""

    @property
    def file(self) -> Path:
        """Where it lies once it is compiled."""
        return folder() / f"{hash_of_json({**self.about(), **_conditions(), 'options': self.options})}.pt2"


def _conditions() -> dict[str, Any]:
    """What all graphs depend on."""
    return {
        "machine": (platform.machine(), torch.backends.cpu.get_cpu_capability(), platform.processor()),
        "threads": torch.get_num_threads(),
        "versions": (torch.__version__, transformers.__version__, platform.python_version()),
        "code": sources.of_rooms(stopkit, batch, graphs, hf),
    }


def folder() -> Path:
    """Where compiled graphs are kept between runs."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "stopkit" / "graphs"


_faults: dict[Path, CannotCompile] = {}


def load(wanted: Wanted) -> Graph:
    """The graph, which has been prepared. Raises CannotCompile if it could not be."""
    file = wanted.file
    if fault := _faults.get(file):
        raise fault
    # What the package makes of its loader reads the form of inputs and outputs anew at every call.
    run = torch._inductor.aoti_load_package(str(file)).loader.run
    return lambda *inputs: run([*inputs])


def prepare(wanted: Sequence[Wanted]) -> None:
    """Compile those that have never been, as many at a time as there are processors."""
    missing = {file: each for each in wanted if not (file := each.file).is_file() and file not in _faults}
    if not missing:
        return
    names = ", ".join(each.name for each in missing.values())
    log.info("Compiling %s: once for this machine; it takes a minute or two.", names)
    began, running = time.monotonic(), deque[_Work]()
    folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder(), prefix="compiling-") as place:
        try:
            for file, each in missing.items():
                if len(running) == (os.cpu_count() or 1):
                    running.popleft().finish()
                running.append(_Work(each, file, Path(place)))
            while running:
                running.popleft().finish()
        finally:
            for work in running:
                work.stop()
    log.info("Compiled in %.0f s; kept in %s.", time.monotonic() - began, folder())


class _Work:
    """A graph that a process of its own compiles. What goes wrong is kept for whoever loads it."""

    def __init__(self, wanted: Wanted, file: Path, place: Path) -> None:
        self._name, self._file, self._out = wanted.name, file, place / file.name
        self.process: subprocess.Popen[str] | None = None
        graph = self._out.with_suffix(".graph.pt2")
        try:
            torch.export.save(wanted.capture(), graph)
        except Exception as error:  # torch raises errors of any kind over what it cannot capture
            _faults[file] = CannotCompile(f"it cannot be captured, {type(error).__name__}: {one_line(error, most=160)}")
            return
        asked = (json.dumps(dict(wanted.options)), str(torch.get_num_threads()))
        command = (sys.executable, worker.__file__, str(graph), str(self._out), *asked)
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def finish(self) -> None:
        """Wait for it, and put the graph where it will be found."""
        if self.process is None:
            return
        said, _ = self.process.communicate()
        if self.process.returncode:
            reason = one_line(said.strip().rpartition("\n")[2], most=160)
            _faults[self._file] = CannotCompile(f"it cannot be compiled, {reason}")
        else:
            self._out.replace(self._file)

    def stop(self) -> None:
        """Leave it undone."""
        if self.process is not None:
            self.process.kill()
