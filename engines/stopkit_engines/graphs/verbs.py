"""`GraphVerbs`: a policy's verbs for one sequence, by one call of a compiled graph each.

A graph does what the verb did with tensors when it was captured. What a verb does besides, as one that prints or keeps
a record would, happens at the capture and never again.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils._python_dispatch import TorchDispatchMode

from stopkit.costs import CostModel
from stopkit.errors import InputError, one_line
from stopkit.policy import Drawn, RoundContext, RoundOutcome, StoppingPolicy
from stopkit.signals import Signals
from stopkit.state import State
from stopkit_engines.graphs.artefacts import CannotCompile, Graph, Use, Wanted
from stopkit_engines.graphs.capture import about_policy, exported
from stopkit_engines.graphs.draft_step import StepGraph
from stopkit_engines.graphs.trees import form, leaves, rebuilt

LONGEST = 8
"""Longest block that there is a graph to learn from; shorter ones are padded to it."""
WORTH = 10
"""A verb of fewer operations is as fast without a graph."""
VERBS = ("plan", "admit", "extend", "learn nothing", "learn")
"""What there are graphs of: from a round that drew nothing a policy may learn in another way."""


class Verb(nn.Module):
    """A verb of `policy` as a function of the tensors in its arguments, which have the form of those of `example`."""

    use = Use()

    def __init__(self, policy: StoppingPolicy, name: str, example: tuple[Any, ...]) -> None:
        super().__init__()
        self._verb: Callable[..., Any] = getattr(policy, name.split()[0])
        self._example = example

    def forward(self, *flat: Tensor) -> tuple[Tensor, ...]:
        return tuple(leaves(self._verb(*rebuilt(self._example, iter(flat)))))


class WantedVerb(NamedTuple):
    """A verb that is worth a graph."""

    wanted: Wanted
    example: tuple[Any, ...]
    """Arguments that it is captured with."""
    result: Any
    """What the verb makes of them."""


class GraphVerbs:
    """The verbs of `policy`; those in `graphs` run as one call, the others as they are.

    `draft_step` has some of them in it, if there is one.
    """

    def __init__(
        self,
        policy: StoppingPolicy,
        graphs: Mapping[str, tuple[Graph, WantedVerb]],
        draft_step: StepGraph | None = None,
    ) -> None:
        self._policy, self._graphs, self.draft_step = policy, graphs, draft_step
        self.plan, self.admit, self.extend = (self._verb(name) for name in ("plan", "admit", "extend"))
        self._learn, self._learn_nothing = self._verb("learn"), self._verb("learn nothing")

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        count = len(outcome.drawn)
        if count > LONGEST:
            return self._policy.learn(state, outcome)
        learned: State = self._learn(state, padded(outcome)) if count else self._learn_nothing(state, outcome)
        return learned

    def _verb(self, name: str) -> Callable[..., Any]:
        plain: Callable[..., Any] = getattr(self._policy, name.split()[0])
        if name not in self._graphs:
            return plain
        graph, (_, example, result) = self._graphs[name]
        expected = [*map(form, leaves(example))]

        def by_graph(*arguments: Any) -> Any:
            tensors = [tensor.contiguous() for tensor in leaves(arguments)]
            fits = [*map(form, tensors)] == expected
            return rebuilt(result, iter(graph(*tensors))) if fits else plain(*arguments)

        return by_graph


def padded(outcome: RoundOutcome) -> RoundOutcome:
    """The outcome with LONGEST positions; those past every block have no meaning."""
    signals, drawn = ([*each, *[each[-1]] * (LONGEST - len(each))] for each in (outcome.signals, outcome.drawn))
    made = object.__new__(RoundOutcome)
    vars(made).update(vars(outcome), signals=signals[:LONGEST], drawn=drawn)
    return made


def wanted_verbs(policy: StoppingPolicy, signals: Signals) -> dict[str, WantedVerb]:
    """The verbs of a policy that are worth a graph. `signals` are those of a draft step of one sequence.

    Raises CannotCompile.
    """
    wanted = {}
    for name, example in examples(policy, signals).items():
        counting = Counting()  # type: ignore[no-untyped-call]
        try:
            with torch.inference_mode(), counting:
                result = getattr(policy, name.split()[0])(*example)
        except InputError:  # the policy knows what the user has to change
            raise
        except Exception as error:  # it will fail at work, too, or looks at more than a verb may
            raise CannotCompile(f"{name.split()[0]} fails on an example, {one_line(error, most=160)}") from error
        if counting.operations >= WORTH:
            wanted[name] = WantedVerb(_wanted(policy, name, example), example, result)
    return wanted


def examples(policy: StoppingPolicy, signals: Signals) -> dict[str, tuple[Any, ...]]:
    """Arguments of every verb, for one sequence."""
    device = next((signal.device for signal in leaves(signals)), torch.device("cpu"))
    state, position = policy.init(1, device), torch.zeros(1, dtype=torch.long, device=device)
    context = RoundContext(position == 0, position + LONGEST, CostModel().costs(device), last_token=position)
    drawn = Drawn(position, torch.full((1,), 0.5, dtype=torch.float32, device=device))
    nothing = RoundOutcome(context, position, position, torch.tensor(1.0, dtype=torch.float64), [], [])
    something = RoundOutcome(context, position + 1, position, nothing.seconds, [signals], [drawn])
    extend = (state, position, signals, drawn)
    return dict(
        zip(VERBS, ((state, context), extend[:3], extend, (state, nothing), (state, padded(something))), strict=True)
    )


class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations on tensors."""

    operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        return func(*args, **(kwargs or {}))


def _wanted(policy: StoppingPolicy, name: str, example: tuple[Any, ...]) -> Wanted:
    verb = Verb(policy, name, example)

    def about() -> dict[str, Any]:
        return about_policy(policy) | {"verb": name, "taken": [str(form(tensor)) for tensor in leaves(example)]}

    def capture() -> ExportedProgram:
        return exported(verb, tuple(leaves(example)))

    return Wanted(f"{policy.kind} ({name})", about, verb, capture, {})
