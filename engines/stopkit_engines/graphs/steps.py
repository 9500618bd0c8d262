"""`GraphSteps`: the functions of `Steps` by one call of a compiled graph each."""

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn import functional

from stopkit.coupling import Maximal
from stopkit.random import SuppliedUniforms, UniformSource
from stopkit.sampling import OVERFLOWING, Sampling
from stopkit.signals import Signals
from stopkit_engines.batch.room import STEP
from stopkit_engines.batch.steps import Extended, Place, Process, Proposed, Steps, Verified
from stopkit_engines.graphs.artefacts import Graph, Wanted
from stopkit_engines.graphs.capture import MOST, exported

SMALLEST = 2
"""Dimensions that can vary are at least this; blocks are padded to it."""


class Asked(NamedTuple):
    """What graphs of steps are for."""

    sampling: Sampling
    """Its temperature is 0, or stands for any."""
    signals: tuple[str, ...]
    vocabulary: int
    ends: int
    """How many tokens end a sequence."""
    dtype: torch.dtype
    """Of the logits."""
    one_row: bool


class Step(nn.Module):
    """One of the functions, for what is asked."""

    def __init__(self, asked: Asked) -> None:
        super().__init__()
        self._asked = asked


class Propose(Step):
    """`Steps.propose`: logits [B, V], offered [B], temperature; gives q, what is usable, what is bad, the signals."""

    def forward(self, raw: Tensor, offered: Tensor, temperature: Tensor) -> tuple[Tensor, ...]:
        q, usable, bad, signals = _steps(self._asked, temperature).propose(raw, offered, None)
        return q, usable, bad, *(getattr(signals, name) for name in self._asked.signals)


class Extend(Step):
    """`Steps.extend`: q [B, V], a uniform a row [B, 1], tokens [B, L], places [B], ends [E]."""

    def forward(self, q: Tensor, uniform: Tensor, tokens: Tensor, at: Tensor, ends: Tensor) -> tuple[Tensor, ...]:
        return tuple(_steps(self._asked, q, uniform).extend(q, 0, Place((), at), tokens, at, ends))


class Verify(Step):
    """`Steps.verify`: logits [B, K + 1, V], q [B, K, V], two uniforms a row, tokens, lengths, drafted, temperature."""

    def forward(
        self,
        logits: Tensor,
        block: Tensor,
        kept: Tensor,
        own: Tensor,
        tokens: Tensor,
        length: Tensor,
        drafted: Tensor,
        temperature: Tensor,
    ) -> tuple[Tensor, ...]:
        steps = _steps(self._asked, temperature, kept, own)
        return tuple(steps.verify(logits, block, Place((), length), tokens, length, drafted))


def _steps(asked: Asked, temperature: Tensor, *uniforms: Tensor) -> Steps:
    coupling, sampling = Maximal(SuppliedUniforms(*uniforms)), asked.sampling
    if sampling.greedy:
        return Steps(sampling, coupling, asked.signals)

    def probabilities(logits: Tensor) -> Tensor:
        return sampling.probabilities(logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature)

    return Steps(sampling, coupling, asked.signals, probabilities)


class GraphSteps(Steps):
    """Draws by uniforms and the maximal coupling. What processors change runs as it is.

    `dtype` is that of the models' logits.
    """

    def __init__(
        self,
        graphs: Mapping[type[Step], Graph],
        dtype: torch.dtype,
        sampling: Sampling,
        signals: Collection[str],
        random: UniformSource,
        device: torch.device | None = None,
    ) -> None:
        super().__init__(sampling, Maximal(random), signals)
        self._graphs, self._dtype, self._random = graphs, dtype, random
        self._temperature = torch.tensor(sampling.temperature or 1.0, dtype=torch.float64, device=device)
        self._names = computed(signals)

    def propose(self, raw: Tensor, offered: Tensor, hidden: Tensor | None, process: Process | None = None) -> Proposed:
        if process is not None or raw.dtype != self._dtype:  # what drafts may be no model
            return super().propose(raw, offered, hidden, process)
        q, usable, bad, *values = self._graphs[Propose](raw.contiguous(), offered, self._temperature)
        signals = dict(zip(self._names, values, strict=True))
        return Proposed(q, usable, bad, Signals(**signals if hidden is None else signals | {"hidden_state": hidden}))

    def extend(self, q: Tensor, column: int, where: Place, tokens: Tensor, at: Tensor, ends: Tensor) -> Extended:
        return Extended(*self._graphs[Extend](q, self._random.uniform(where.rows), tokens, at, ends))

    def verify(
        self,
        logits: Tensor,
        block: Tensor,
        where: Place,
        tokens: Tensor,
        length: Tensor,
        drafted: Tensor,
        process: Process | None = None,
    ) -> Verified:
        if process is not None:
            return super().verify(logits, block, where, tokens, length, drafted, process)
        if (missing := SMALLEST - block.shape[1]) > 0:  # a row's last columns are its own, so more go to the front
            logits, block = functional.pad(logits, (0, 0, missing, 0)), functional.pad(block, (0, 0, 0, missing))
        uniforms = self._random.uniform(drafted > 0), self._random.uniform(where.rows)
        inputs = (logits.contiguous(), block.float().contiguous(), *uniforms, tokens, length, drafted)
        return Verified(*self._graphs[Verify](*inputs, self._temperature))


def computed(signals: Collection[str]) -> tuple[str, ...]:
    """The signals that are made from logits."""
    return tuple(sorted(set(signals) - {"hidden_state"}))


def asked_for(sampling: Sampling, signals: Collection[str], vocabulary: int, ends: int, dtype: Any, rows: int) -> Asked:
    """What graphs of steps are asked for by a generation; their sampling does not depend on its temperature."""
    fields = {name: getattr(sampling, name) for name in Sampling.model_fields}
    fields["temperature"] = 0.0 if sampling.greedy else 1.0
    return Asked(Sampling(**fields), computed(signals), vocabulary, ends, dtype, rows == 1)


def can_run(sampling: Sampling) -> bool:
    """Whether graphs divide by that temperature as softmax does."""
    return sampling.greedy or sampling.temperature >= OVERFLOWING


def wanted_steps(asked: Asked) -> dict[type[Step], Wanted]:
    """The three graphs, only the first of which depends on signals."""
    no_signals = asked._replace(signals=())
    return {Propose: _wanted(Propose, asked), Extend: _wanted(Extend, no_signals), Verify: _wanted(Verify, no_signals)}


def _wanted(kind: type[Step], asked: Asked) -> Wanted:
    fields = {"sampling": asked.sampling.model_dump(), "dtype": str(asked.dtype), "step": kind.__name__}
    rows = "one row" if asked.one_row else "rows"
    return Wanted(
        name=f"{kind.__name__.lower()} ({rows})",
        about=lambda: asked._asdict() | fields,
        plain=kind(asked),
        capture=partial(_captured, kind, asked),
        options={},
    )


def examples(asked: Asked) -> dict[type[Step], tuple[tuple[Tensor, ...], tuple[Any, ...]]]:
    """Inputs of each step, and which of their sizes can vary."""
    size, length, block = 1 if asked.one_row else 3, STEP, 3
    rows = {} if asked.one_row else {0: Dim("rows", min=SMALLEST, max=MOST)}
    long = rows | {1: Dim("length", min=SMALLEST, max=MOST)}
    drafted = Dim("drafted", min=SMALLEST, max=MOST)
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(size, block + 1, asked.vocabulary, generator=random).to(asked.dtype)
    temperature = torch.tensor(1.0, dtype=torch.float64)
    q = asked.sampling.probabilities(logits)
    kept, own = torch.rand(2, size, 1, dtype=torch.float64, generator=random).unbind()
    tokens = torch.randint(asked.vocabulary, (size, length), generator=random)
    places = torch.arange(size) + length // 2
    ends = torch.arange(asked.ends)
    counts = torch.arange(size) % block + 1
    uniforms: list[Any] = [rows, rows]
    return {
        Propose: ((logits[:, 0].contiguous(), torch.ones(size, dtype=torch.bool), temperature), (rows, rows, None)),
        Extend: ((q[:, 0].contiguous(), kept, tokens, places, ends), (rows, rows, long, rows, None)),
        Verify: (
            (logits, q[:, :-1].contiguous(), kept, own, tokens, places, counts, temperature),
            (rows | {1: drafted + 1}, rows | {1: drafted}, *uniforms, long, rows, rows, None),
        ),
    }


def _captured(kind: type[Step], asked: Asked) -> ExportedProgram:
    return exported(kind(asked), *examples(asked)[kind])
