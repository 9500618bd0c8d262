"""`GraphSteps`: the functions of `Steps` by one call of a compiled graph each."""

from collections.abc import Collection
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from stopkit.coupling import Maximal
from stopkit.random import SuppliedUniforms
from stopkit.sampling import OVERFLOWING, Sampling
from stopkit_engines.batch.room import STEP
from stopkit_engines.batch.steps import Place, Steps
from stopkit_engines.graphs.artefacts import Use, Wanted
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

    use = Use()

    def __init__(self, asked: Asked) -> None:
        super().__init__()
        self._asked = asked


class Propose(Step):
    """`Steps.propose`: logits [B, V], offered [B], temperature; gives q, what is usable, what is bad, the signals."""

    def forward(self, raw: Tensor, offered: Tensor, temperature: Tensor) -> tuple[Tensor, ...]:
        q, usable, bad, signals = steps_of(self._asked, temperature).propose(raw, offered, None)
        return q, usable, bad, *(getattr(signals, name) for name in self._asked.signals)


class Extend(Step):
    """`Steps.extend`: q [B, V], a uniform a row [B, 1], tokens [B, L], places [B], ends [E]."""

    use = Use(written=2)

    def forward(self, q: Tensor, uniform: Tensor, tokens: Tensor, at: Tensor, ends: Tensor) -> tuple[Tensor, ...]:
        return tuple(steps_of(self._asked, q, uniform).extend(q, 0, Place((), at), tokens, at, ends))


class Verify(Step):
    """`Steps.verify`: logits [B, K + 1, V], q [B, K, V], two uniforms a row, tokens, lengths, drafted, temperature."""

    use = Use(written=4)

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
        steps = steps_of(self._asked, temperature, kept, own)
        return tuple(steps.verify(logits, block, Place((), length), tokens, length, drafted))


def steps_of(asked: Asked, temperature: Tensor, *uniforms: Tensor) -> Steps:
    """The functions for what is asked, at that temperature, drawing by uniforms that are given."""
    coupling, sampling = Maximal(SuppliedUniforms(*uniforms)), asked.sampling
    if sampling.greedy:
        return Steps(sampling, coupling, asked.signals)

    def probabilities(logits: Tensor) -> Tensor:
        return sampling.probabilities(logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature)

    return Steps(sampling, coupling, asked.signals, probabilities)


def computed(signals: Collection[str]) -> tuple[str, ...]:
    """The signals that are made from logits."""
    return tuple(sorted(set(signals) - {"hidden_state"}))


def asked_for(sampling: Sampling, signals: Collection[str], vocabulary: int, ends: int, dtype: Any, rows: int) -> Asked:
    """What graphs of steps are asked for by a generation; their sampling does not depend on its temperature."""
    fields = {name: getattr(sampling, name) for name in Sampling.model_fields}
    fields["temperature"] = 0.0 if sampling.greedy else 1.0
    return Asked(Sampling(**fields), tuple(sorted(signals)), vocabulary, ends, dtype, rows == 1)


def can_run(sampling: Sampling) -> bool:
    """Whether graphs divide by that temperature as softmax does."""
    return sampling.greedy or sampling.temperature >= OVERFLOWING


def wanted_steps(asked: Asked) -> dict[type[Step], Wanted]:
    """The three graphs, only the first of which depends on signals."""
    no_signals = asked._replace(signals=())
    return {Propose: _wanted(Propose, asked), Extend: _wanted(Extend, no_signals), Verify: _wanted(Verify, no_signals)}


def _wanted(kind: type[Step], asked: Asked) -> Wanted:
    rows = "one row" if asked.one_row else "rows"
    return Wanted(
        name=f"{kind.__name__.lower()} ({rows})",
        about=lambda: about_steps(kind, asked),
        plain=kind(asked),
        capture=partial(_captured, kind, asked),
        options={},
    )


def about_steps(kind: type, asked: Asked) -> dict[str, Any]:
    """What a graph of that kind of step depends on, ready for JSON."""
    fields = {"sampling": asked.sampling.model_dump(), "dtype": str(asked.dtype), "step": kind.__name__}
    return asked._asdict() | fields


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
