"""Every recording that there can be of a small pair of models, with its probability."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import torch

from stopkit.engine import Engine
from stopkit.generation import GenerationOptions
from stopkit.random import sequence_seeds
from stopkit.sampling import Sampling
from stopkit.testing.scripted import Script, ScriptedSource
from stopkit.trace.format import Metadata
from stopkit.trace.recorder import RecordingRequest, Rollouts
from stopkit.trace.trace import Trace
from stopkit.trace.writing import TraceWriter

World = tuple[Script, ...]
"""What the target draws, then what the rollout of every start draws; those that are missing take any branch."""
BATCH = 64


def every_recording(
    engine: Engine, prompt: Sequence[int], options: GenerationOptions, max_draft: int, rollouts: int = 2
) -> Iterator[tuple[float, Rollouts]]:
    """The recordings of one sequence after `prompt`: each once, with its probability."""
    waiting: list[World] = [()]
    while waiting:
        batch, waiting = waiting[-BATCH:], waiting[:-BATCH]
        random = _Scripts(batch)
        request = RecordingRequest(
            prompts=[list(prompt)] * len(batch),
            sequences=range(len(batch)),
            seeds=range(len(batch)),
            options=options,
            max_draft=max_draft,
            batch_size=BATCH,
            rollouts=rollouts,
            source=random,
        )
        for made in engine.record(request):
            drawn = list(_draws(made))
            weights, others = random.of(made.sequence, len(made.output))
            yield prod(weights), made
            waiting += [(*drawn[:part], script) for part, scripts in enumerate(others) for script in scripts]


def _draws(made: Rollouts) -> Iterator[Script]:
    yield tuple(made.output.tolist())
    for start, drafted in enumerate(made.drafted.tolist()):
        yield tuple(made.columns["token"][start, :drafted].tolist()) if drafted else ()


class _Scripts:
    """Makes the sources that follow the scripts of many worlds; the seed of a world is its number."""

    def __init__(self, worlds: Sequence[World]) -> None:
        self._scripts = {
            _seed(number, part): script for number, world in enumerate(worlds) for part, script in enumerate(world)
        }
        self._made: dict[int, tuple[ScriptedSource, int]] = {}

    def __call__(self, seeds: Sequence[int], device: torch.device) -> ScriptedSource:
        source = ScriptedSource([self._scripts.get(seed, ()) for seed in seeds])
        self._made |= {seed: (source, row) for row, seed in enumerate(seeds)}
        return source

    def of(self, number: int, starts: int) -> tuple[list[float], list[list[Script]]]:
        """Of a world's parts: the probabilities of what was drawn, and the scripts of the branches not taken."""
        made = [self._made[_seed(number, part)] for part in range(1 + starts)]
        others = [[script for at, script in source.alternatives if at == row] for source, row in made]
        return [source.weights[row] for source, row in made], others


def _seed(number: int, part: int) -> int:
    return number if part == 0 else sequence_seeds(number, 1, part - 1)[0]


def as_trace(path: Path, recordings: Sequence[Rollouts], options: GenerationOptions, max_draft: int) -> Trace:
    """All of `recordings` as the sequences of one trace, through a file."""
    model: dict[str, Any] = {"name": "table", "dtype": "float64", "hash": ""}
    metadata = Metadata(
        target=model,
        draft=model,
        tokenizer="",
        prompts="",
        sequences=len(recordings),
        sampling=Sampling(**{name: getattr(options, name) for name in Sampling.model_fields}),
        seed=0,
        max_new_tokens=options.max_new_tokens,
        max_draft=max_draft,
    )
    with TraceWriter(path, metadata) as writer:
        for number, made in enumerate(recordings):
            writer.write(replace(made, sequence=number))
    return Trace.open(path)
