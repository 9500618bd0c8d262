"""The trial: whether a model with a cache says what it says without one, and in which way it has to be run for that.

A list of model types would go out of date, and could not know foreign ones. So every model is tried, on a dozen tokens,
by what engines do: rows of different length, blocks that are rejected and rolled back, wide and narrow forwards.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from stopkit.errors import InputError, one_line
from stopkit_engines.batch.runner import Runner
from stopkit_engines.hf.cached_model import CachedModel, keeps_whole
from stopkit_engines.hf.expected import PLANS, Differs, Expected, Plan
from stopkit_engines.hf.forward import Forward, context_length
from stopkit_engines.hf.loading import LOCK
from stopkit_engines.hf.single_row import SingleRow, SteppedRow
from stopkit_engines.hf.windows import narrowed

Trial = Literal["once", "always", "never"]
"""When to try a model: once a process for its class and config, whenever an engine gets it, or never."""

WINDOW = 3
"""Windows and chunks are this narrow during the trial, so that a dozen tokens are past them."""


@dataclass(frozen=True)
class Way:
    """A way to run a model."""

    name: str
    runner: Callable[[Any, int, int, int, torch.device], Runner]
    """Makes a runner of a model, a vocabulary, rows, most tokens of a row, and a device."""
    ragged: bool
    """Whether rows of different length can be beside each other, and branches can leave them."""


@dataclass(frozen=True)
class Served:
    """A model, and the way to run it."""

    model: Any
    way: Way
    of_target: bool = False
    """Whether it is a part of the target, and keeps what it sees in the cache of the target's runner."""

    def runner(self, vocabulary: int, rows: int, capacity: int, device: torch.device) -> Runner:
        """The model with a fresh cache for `rows` rows of at most `capacity` tokens."""
        return self.way.runner(self.model, vocabulary, rows, capacity, device)


WAYS = (
    Way("ragged rows", CachedModel, True),
    Way("one row", SingleRow, False),
    Way("one row, token by token", SteppedRow, False),
)
"""All ways, the fastest first; the trial takes the first that is exact."""

_known: dict[tuple[Any, ...], Way] = {}


def served(model: Any, where: str, trial: Trial = "once") -> Served:
    """`model` in the way in which it says what it says without a cache.

    Raises InputError, which names the type of the model and what differs, if there is none. Untried models run with
    ragged rows if their layers can be held so, else as one row.
    """
    with LOCK:
        key = _identity(model)
        plan = plan_for(model)
        if (trial == "never" or plan is None) and key not in _known:
            return Served(model, WAYS[0] if keeps_whole(model.config.get_text_config()) else WAYS[1])
        if trial == "always" or key not in _known:
            _known[key] = _tried(model, where, plan or PLANS[0])
        return Served(model, _known[key])


def plan_for(model: Any) -> Plan | None:
    """What a trial of `model` runs; None if its context is too short for any."""
    return next((plan for plan in PLANS if plan.total <= context_length(model)), None)


def _identity(model: Any) -> tuple[Any, ...]:
    config = json.dumps(model.config.to_dict(), sort_keys=True, default=str)
    parts = frozenset(map(type, model.modules())) if hasattr(model, "modules") else None  # quantised layers are others
    return (
        type(model),
        parts,
        config,
        getattr(model.config, "_attn_implementation", None),
        model.dtype,
        model.device.type,
    )


@torch.inference_mode()
def _tried(model: Any, where: str, plan: Plan) -> Way:
    reasons = []
    config = model.config.get_text_config()
    with narrowed(config, WINDOW):
        try:
            expected = Expected(model, plan)
        except Exception as error:
            raise _refusal(model, where, f"cannot be used: {_short(error)}") from error
        for way in WAYS:
            try:
                require_equal(model, way, expected)
            except Exception as error:
                reasons.append(_short(error))
            else:
                return way
    differences = "; ".join(dict.fromkeys(reasons))
    raise _refusal(model, where, f"does not say with a cache what it says without one: {differences}")


def require_equal(model: Any, way: Way, expected: Expected) -> None:
    """Raise Differs unless `model`, run in this way, says what is expected of it."""
    if way.ragged and not keeps_whole(model.config.get_text_config()):
        raise Differs("it keeps a state that cannot be rolled back row by row")
    if Forward(model, 1).cache_argument is None:
        raise Differs("its forward takes no cache")
    rows = slice(None) if way.ragged else slice(1)
    first = expected.steps[0]
    count, capacity = first.tokens[rows].shape
    runner = way.runner(model, first.logits.shape[-1], count, capacity, first.tokens.device)
    for step in expected.steps:
        said = runner.forward(step.tokens[rows], step.end[rows], step.keep).logits.double()
        errors = (said - step.logits[rows]).abs().flatten(1).amax(1).tolist()
        for row, error in enumerate(errors):
            if not error <= expected.tolerance and expected.sound:
                beside = " beside a longer row" if row else ""
                raise Differs(f"{step.what}{beside} its logits are off by {error:.2g}")
        runner.rewind(step.agreed[rows])


def _refusal(model: Any, where: str, fault: str) -> InputError:
    named = f"this {model.config.model_type} model ({type(model).__name__})"
    remedy = "it is in training mode, call model.eval()" if model.training else "use a model of another type"
    return InputError(f"{where}: {named} {fault}; {remedy}.")


def _short(error: Exception) -> str:
    return one_line(error if isinstance(error, Differs) else f"{type(error).__name__}: {error}", most=120)
