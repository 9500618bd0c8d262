"""CUDA graphs of what `capture.py` and `steps.py` have compiled on a CPU: captured at a call's shapes, then replayed.

A graph reads and writes where it did when it was captured. So inputs are copied to buffers of its own, outputs are
copied from them, and caches stay where they are: `Rooms` keeps them for the next generation.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any
from weakref import ref

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten

from stopkit.errors import one_line
from stopkit_engines.graphs.artefacts import Use, Wanted
from stopkit_engines.graphs.model import WIDEST
from stopkit_engines.graphs.trees import form
from stopkit_engines.hf.cache import Stored

log = logging.getLogger("stopkit")

WIDTHS = (*range(1, 9), 12, 16, 24, 32, 48, WIDEST)
"""Tokens a row that graphs of forwards are captured for; what is between is padded to the next one."""
MOST = 128
"""Graphs of one function; shapes that are asked for when there are so many run as they are."""
WARM_UP = 3
"""Runs before a capture: libraries choose their kernels and make their workspaces in them."""

Run = Callable[[], Any]
Capture = Callable[[Run], tuple[Callable[[], Any], Any]]
"""Of a function without arguments: what repeats it, and its outputs, which lie where they are at every repetition."""


def captured_on_gpu(run: Run) -> tuple[Callable[[], Any], Any]:
    """A `Capture` by a CUDA graph."""
    beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(WARM_UP):
            run()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        outputs = run()
    return graph.replay, outputs


class Replays:
    """A `Graph` by CUDA graphs: a function of tensors, captured once for every shape that it is called with.

    Its outputs belong to the caller. One call at a time: threads wait for each other. A capture that fails is told
    once, and from then on what has no graph yet runs as it is.
    """

    def __init__(self, name: str, function: Callable[..., Any], use: Use, capture: Capture = captured_on_gpu) -> None:
        self._name, self._function, self._use, self._capture = name, function, use, capture
        self._shots: dict[Any, _Shot] = {}
        self.last: Callable[[], Any] | None = None
        """Repeats the graph that was called last, on what it was called with; for measurements."""
        self._failed = False
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """Graphs so far."""
        return len(self._shots)

    def __call__(self, *inputs: Any) -> Any:
        with self._lock:
            shot = self._shot(inputs if self._use.span is None else widened(inputs, self._use.span))
            self.last = shot and shot.replay
            return self._function(*inputs) if shot is None else shot(*inputs)

    def _shot(self, inputs: tuple[Any, ...]) -> "_Shot | None":
        key = self._layout(inputs)
        if key not in self._shots and not self._failed and len(self._shots) < MOST:
            try:
                self._shots[key] = _Shot(self._function, self._use, self._capture, inputs)
            except Exception as error:  # torch raises errors of any kind over what it cannot capture
                reason = f"{type(error).__name__}: {one_line(error, most=160)}"
                log.warning("%s runs eagerly: it cannot be captured, %s.", self._name, reason)
                self._failed = True
        return self._shots.get(key)

    def _layout(self, inputs: tuple[Any, ...]) -> Any:
        """What a graph depends on: shapes and dtypes, and the addresses of what is kept."""
        kept = () if self._use.kept is None else inputs[self._use.kept :]
        return tuple(map(form, inputs)), tuple(each.data_ptr() for each in kept)


class _Shot:
    """One graph and its buffers."""

    def __init__(self, function: Callable[..., Any], use: Use, capture: Capture, inputs: tuple[Any, ...]) -> None:
        self._use, kept = use, len(inputs) if use.kept is None else use.kept
        self._buffers = *map(torch.clone, inputs[:kept]), *inputs[kept:]
        copied = [number for number in range(kept) if number != use.span]  # of a graph it is always the same
        self._copied = _by_dtype(self._buffers, copied)
        self.replay, self._outputs = capture(lambda: function(*self._buffers))
        self._given = _by_dtype(self._outputs, range(len(self._outputs)))

    def __call__(self, *inputs: Any) -> Any:
        """Repeat it on these inputs."""
        _copy(self._copied, self._buffers, inputs)
        self.replay()
        if self._use.written is not None:
            inputs[self._use.written].copy_(self._buffers[self._use.written])
        outputs = [*map(torch.empty_like, self._outputs)]
        _copy(self._given, outputs, self._outputs)
        return outputs


def _by_dtype(tensors: Sequence[Tensor], numbers: Iterable[int]) -> list[list[int]]:
    """The numbers of those that one kernel can copy together."""
    ordered = sorted(numbers, key=lambda number: str(tensors[number].dtype))
    return [[*group] for _, group in groupby(ordered, key=lambda number: tensors[number].dtype)]


def _copy(groups: Iterable[Sequence[int]], to: Sequence[Tensor], what: Sequence[Tensor]) -> None:
    for group in groups:
        torch._foreach_copy_([to[number] for number in group], [what[number] for number in group])


def widened(inputs: tuple[Any, ...], number: int) -> tuple[Any, ...]:
    """The inputs with their span [W] filled up in front to the next of `WIDTHS`, if there is one."""
    span: Tensor = inputs[number]
    width = next((width for width in WIDTHS if width >= len(span)), len(span))
    if width == len(span):
        return inputs
    return (*inputs[:number], torch.arange(-width, 0, device=span.device), *inputs[number + 1 :])


class Rooms:
    """Caches of one model, at addresses that stay. Whoever has one gives it back by being gone."""

    def __init__(self) -> None:
        self._all: list[tuple[Callable[[], Any], Stored]] = []
        self._lock = threading.Lock()

    def place(self, owner: Any, stored: Stored) -> Stored:
        """Where `owner` is to keep what it has `stored`: there if it is in a room, else in a free one like it.

        Without a free one it becomes a room. What an owner had before, when its cache was smaller, is free again.
        """
        with self._lock:
            if any(room[0][0] is stored[0][0] for _, room in self._all):
                return stored
            used = [(whose, room) for whose, room in self._all if whose() not in (None, owner)]
            free = [room for whose, room in self._all if whose() in (None, owner)]
            mine = next((room for room in free if _layout(room) == _layout(stored)), None)
            if mine is None:
                mine = stored
            else:
                free = [room for room in free if room is not mine]
                for kept, values in zip(tree_flatten(mine)[0], tree_flatten(stored)[0], strict=True):
                    kept.copy_(values)
            self._all = [*used, (ref(owner), mine), *((_nobody, room) for room in free)]
            return mine


def _nobody() -> None:
    """Whose a free room is."""


def _layout(stored: Stored) -> tuple[Any, TreeSpec]:
    leaves, tree = tree_flatten(stored)
    return [(each.shape, each.dtype) for each in leaves], tree


def captured(wanted: Wanted, capture: Capture = captured_on_gpu) -> Replays:
    """What is wanted, captured as it is called."""
    return Replays(wanted.name, wanted.plain, wanted.plain.use, capture)
