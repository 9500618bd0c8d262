"""`GraphSteps`: the functions of `Steps` by one call of a compiled graph each, and a whole draft step by one."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from stopkit.block import Block
from stopkit.coupling import Maximal
from stopkit.policy import Verbs
from stopkit.random import SeededRandomSource, UniformSource
from stopkit.sampling import Sampling
from stopkit.signals import Signals
from stopkit.state import State
from stopkit_engines.batch.steps import Batch, Extended, Place, Process, Proposed, Steps, Verified, Whole
from stopkit_engines.graphs.artefacts import Graph
from stopkit_engines.graphs.steps import SMALLEST, Extend, Propose, Step, Verify, computed
from stopkit_engines.graphs.verbs import GraphVerbs


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

    def whole(self, verbs: Verbs, state: State, block: Block, batch: Batch) -> Whole | None:
        step = verbs.draft_step if isinstance(verbs, GraphVerbs) else None
        if step is None or not isinstance(self._random, SeededRandomSource):
            return None
        return step.run(batch, state, block, self._random, self._temperature)

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
