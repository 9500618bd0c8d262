"""A whole draft step as one function of tensors: the draft's forward, the signals, a policy's verbs, the draw."""

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from stopkit.block import Block, WholeStep, admitted, extended
from stopkit.errors import one_line
from stopkit.policy import Drawn, StoppingPolicy
from stopkit.random import SeededRandomSource
from stopkit.signals import Signals
from stopkit.state import State
from stopkit_engines.batch.draft_source import ModelDraft
from stopkit_engines.batch.steps import Batch, Place, Whole
from stopkit_engines.graphs.artefacts import Graph, Use, Wanted
from stopkit_engines.graphs.capture import MOST, Pending, about_model, about_policy, compiling, exported, held_by
from stopkit_engines.graphs.model import GraphModel
from stopkit_engines.graphs.steps import Asked, about_steps, steps_of
from stopkit_engines.graphs.trees import form, leaves, rebuilt

log = logging.getLogger("stopkit")

PENDING = 2
"""Tokens that the draft has not seen when a step begins, at most: its own last one, and the target's after that."""
INPUTS = 9
"""Tensors that a step takes before those of the policy's state, and then those of the cache."""


class DraftStep(nn.Module):
    """A draft step of `policy` for any rows, whose draft has at most `PENDING` tokens of each to see.

    `state` and `signals` have the form of those at work.
    """

    def __init__(self, pending: Pending, asked: Asked, policy: StoppingPolicy, state: State, signals: Signals) -> None:
        super().__init__()
        self._pending, self._asked, self._policy = pending, asked, policy
        self.state, self.signals = state, signals
        self.use = Use(written=0, kept=INPUTS + len(leaves(state)))

    def forward(
        self,
        tokens: Tensor,
        length: Tensor,
        filled: Tensor,
        live: Tensor,
        drafted: Tensor,
        cap: Tensor,
        uniform: Tensor,
        temperature: Tensor,
        ends: Tensor,
        *rest: Tensor,
    ) -> tuple[Tensor, ...]:
        """`rest` are the leaves of the state, and the keys and values of the draft.

        Gives what was seen of each row, q, where logits are bad, who drew, the tokens and their probabilities, the
        block's live and drafted, whether any row drew and whether any goes on [2], and the leaves of signals and state.
        """
        known = self.use.kept or 0
        state: State = rebuilt(self.state, iter(rest))
        at, span = length + drafted, torch.arange(-PENDING, 0, device=tokens.device)
        end = at.where(live, filled)
        logits, hidden = self._pending(tokens, end, filled, span, *rest[known - INPUTS :])
        steps = steps_of(self._asked, temperature, uniform)
        q, usable, bad, signals = steps.propose(logits[:, -1], torch.ones_like(live), hidden[:, -1])
        block, state = admitted(self._policy, state, Block(live, drafted, cap), signals, usable)
        drew = block.live
        token, probability, more = steps.extend(q, 0, Place((), drew), tokens, at, ends)
        block, state = extended(self._policy, state, block, signals, Drawn(token, probability), more)
        going = torch.stack([drew.any(), block.live.any()])
        own = (end, q, live & bad, drew, token, probability, block.live, block.drafted, going)
        return *own, *leaves(signals), *leaves(state)


class StepGraph:
    """A `step` as the `graph` that was made of it; with `one_row` it takes no other rows than those of its state."""

    def __init__(self, graph: Graph, step: DraftStep, one_row: bool) -> None:
        self._graph, self._step, self._failed = graph, step, False
        self._forms = [*map(form, leaves(step.state))] if one_row else None

    def run(
        self, batch: Batch, state: State, block: Block, random: SeededRandomSource, temperature: Tensor
    ) -> Whole | None:
        """Make the step, or None where it is not one that the graph is for."""
        runner = batch.source.runner if isinstance(batch.source, ModelDraft) else None
        known = [value.contiguous() for value in leaves(state)]
        if self._failed or not isinstance(runner, GraphModel) or not self._fits(known):
            return None
        if not (stored := runner.held(batch.used)):
            return None
        inputs = (batch.tokens, batch.length, runner.filled, *block, random.ahead(), temperature, batch.ends)
        try:
            outputs = self._graph(*inputs, *known, *stored)
        except Exception as error:  # a policy's, of any kind; called by themselves its verbs will say where
            log.warning("Draft steps run in parts: as a whole they fail, %s.", one_line(error, most=160))
            self._failed = True
            return None
        end, q, bad, drew, token, probability, live, drafted, going, *rest = outputs
        runner.saw(end)
        random.use(drew)
        values = iter(rest)
        signals, state = rebuilt(self._step.signals, values), rebuilt(self._step.state, values)
        drawn, block = Drawn(token, probability), Block(live, drafted, block.cap)
        return Whole(WholeStep(signals, drawn, block, state, *going.tolist()), q, bad)

    def _fits(self, state: Sequence[Tensor]) -> bool:
        return self._forms is None or self._forms == [*map(form, state)]


def wanted_draft_step(model: Any, asked: Asked, policy: StoppingPolicy, signals: Signals) -> Wanted:
    """The graph of a draft step of `model` for one row, and the function for any."""
    step = DraftStep(Pending(model, asked.vocabulary), asked, policy, policy.init(1, model.device), signals)

    def about() -> dict[str, Any]:
        return about_model(model, asked.vocabulary) | about_steps(DraftStep, asked) | about_policy(policy)

    name = f"a draft step of {policy.kind}"
    return Wanted(name, about, step, partial(_captured, model, step, asked), compiling(model.dtype))


def _captured(model: Any, step: DraftStep, asked: Asked) -> ExportedProgram:
    tokens, places, stored = held_by(model, asked.vocabulary, rows=1, width=PENDING)
    one = torch.ones_like(places)
    uniform, temperature = torch.full((1, 1), 0.5, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)
    ends = torch.arange(asked.ends)
    first = (tokens, places, places - 1, one > 0, one - 1, one * 4, uniform, temperature, ends)
    state = leaves(step.state)
    slots = {2: Dim("slots", min=4, max=MOST)}
    sizes: list[Any] = [{1: Dim("length", min=4, max=MOST)}, *[None] * (INPUTS - 1)]
    kept = (*[None] * len(state), *[slots] * len(stored))
    return exported(step, (*first, *state, *stored), (*sizes, kept))
