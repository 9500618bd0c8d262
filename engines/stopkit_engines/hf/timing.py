"""What a draft step and a verification take, measured by forwards of the kind that a round makes, at batch 1."""

import statistics
import time

import torch

from stopkit.errors import InputError
from stopkit.statistics import Stopwatch
from stopkit.trace.recorder import Timings
from stopkit_engines.hf.forward import context_length
from stopkit_engines.hf.trial import Served

REPEATS = 20
MOST_SECONDS = 3.0
"""After this no further repeat is begun."""


@torch.inference_mode()
def measure(target: Served, draft: Served, max_draft: int, length: int) -> Timings:
    """Medians over repeats of a draft step and of verifying 0 … `max_draft` tokens, `length` tokens into a sequence.

    All are measured in turn, so that a machine that slows down favours none. The first turn warms up.
    """
    context = context_length(target.model)
    if max_draft + 2 > context:
        raise InputError(f"max_draft: {max_draft} tokens and a prompt exceed the target's context of {context}.")
    length = max(1, min(length, context - max_draft - 1, context_length(draft.model) - 1))
    forwards = [
        _Forward(draft, length, 1),
        *(_Forward(target, length, 1 + drafted) for drafted in range(max_draft + 1)),
    ]
    taken: list[list[float]] = [[] for _ in forwards]
    began = time.perf_counter()
    for turn in range(1 + REPEATS):
        for seconds, forward in zip(taken, forwards, strict=True):
            seconds.append(forward.seconds())
        if turn and time.perf_counter() - began > MOST_SECONDS:
            break
    step, *verify = (statistics.median(seconds[1:]) for seconds in taken)
    return Timings(draft_step=step, verify=tuple(verify))


class _Forward:
    """One forward over the `width` tokens that follow a sequence's first `length`."""

    def __init__(self, served: Served, length: int, width: int) -> None:
        device, vocabulary = served.model.device, served.model.config.get_text_config().vocab_size
        self._model = served.runner(vocabulary, 1, length + width, device)
        self._tokens = torch.zeros(1, length + width, dtype=torch.long, device=device)
        self._length, self._width = torch.tensor([length], device=device), width
        self._stopwatch = Stopwatch(device)
        self._model.forward(self._tokens, self._length, keep=1)

    def seconds(self) -> float:
        self._model.rewind(self._length)
        self._stopwatch.settle()
        with self._stopwatch.phase("verify"):
            self._model.forward(self._tokens, self._length + self._width, keep=self._width)
        return self._stopwatch.settle()["verify"]
