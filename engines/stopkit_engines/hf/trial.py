"""The trial: whether a model with a cache says what it says without one, and in which way it has to be run for that.

A list of model types would go out of date, and could not know foreign ones. So every model is tried, on a dozen tokens,
by what engines do: rows of different length, blocks that are rejected and rolled back, wide and narrow forwards.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from stopkit.errors import InputError, one_line
from stopkit_engines.batch.runner import Runner
from stopkit_engines.hf.cached_model import CachedModel, keeps_whole
from stopkit_engines.hf.forward import Forward, context_length, vocabulary_size
from stopkit_engines.hf.loading import LOCK
from stopkit_engines.hf.single_row import SingleRow, SteppedRow
from stopkit_engines.hf.windows import narrowed

Trial = Literal["once", "always", "never"]
"""When to try a model: once a process for its class and config, whenever an engine gets it, or never."""

WINDOW = 3
"""Windows and chunks are this narrow during the trial, so that a dozen tokens are past them."""


class Plan(NamedTuple):
    """What a trial runs: prompts, then a block of which one token is accepted, one of which none is, and one of which
    all are, then a single token.
    """

    lengths: tuple[int, ...]
    """Tokens of the prompts, one a row."""
    block: int
    """Tokens of a block."""

    @property
    def accepted(self) -> tuple[int, ...]:
        """How many tokens of each block are."""
        return 1, 0, self.block

    @property
    def total(self) -> int:
        """Tokens of the longest row in the end."""
        return max(self.lengths) + sum(1 + accepted for accepted in self.accepted) + 1


PLANS = (Plan((6, 3), block=3), Plan((2, 1), block=1))
"""The longer one, and one for models of a short context."""


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


class Differs(Exception):
    """The model says something else than without a cache."""


def served(model: Any, where: str, trial: Trial = "once") -> Served:
    """`model` in the way in which it says what it says without a cache.

    Raises InputError, which names the type of the model and what differs, if there is none. Untried models run with
    ragged rows if their layers can be held so, else as one row.
    """
    with LOCK:
        key = _identity(model)
        plan = next((plan for plan in PLANS if plan.total <= context_length(model)), None)
        if (trial == "never" or plan is None) and key not in _known:
            return Served(model, WAYS[0] if keeps_whole(model.config.get_text_config()) else WAYS[1])
        if trial == "always" or key not in _known:
            _known[key] = _tried(model, where, plan or PLANS[0])
        return Served(model, _known[key])


def _identity(model: Any) -> tuple[Any, ...]:
    config = json.dumps(model.config.to_dict(), sort_keys=True, default=str)
    return type(model), config, getattr(model.config, "_attn_implementation", None), model.dtype, model.device.type


@torch.inference_mode()
def _tried(model: Any, where: str, plan: Plan) -> Way:
    reasons = []
    config = model.config.get_text_config()
    with narrowed(config, WINDOW):
        try:
            expected = _Reference(model, plan)
        except Exception as error:
            raise InputError(f"{where}: {_named(model)} cannot be used: {_short(error)}.") from error
        for way in WAYS:
            try:
                _require_equal(model, way, expected)
            except Exception as error:
                reasons.append(_short(error))
            else:
                return way
    raise InputError(
        f"{where}: {_named(model)} does not say with a cache what it says without one: "
        f"{'; '.join(dict.fromkeys(reasons))}; use a model of another type."
    )


class _Reference:
    """What a model says without a cache, and how much of that is rounding."""

    def __init__(self, model: Any, plan: Plan = PLANS[0]) -> None:
        self._model, self.plan = model, plan
        rows, generator = len(plan.lengths), torch.Generator().manual_seed(0)
        padding = getattr(model.config.get_text_config(), "pad_token_id", None)
        usable = [token for token in range(min(vocabulary_size(model), 1000)) if token != padding] or [0]
        drawn = torch.randint(len(usable), (2 * rows, plan.total), generator=generator)
        tokens = torch.tensor(usable)[drawn].to(model.device)
        self.tokens, self.rejected = tokens[:rows], tokens[rows:]
        """[B, L]: what is said, and tokens that are proposed in its place and rejected."""
        self.logits = [self(row) for row in self.tokens]
        whole = torch.cat(self.logits)
        # A row beside another, and a shorter row, differ from it by rounding alone.
        beside = self._plain(self.tokens)
        shorter = self(self.tokens[0, : plan.lengths[0]])
        ahead = float((shorter - self.logits[0][: plan.lengths[0]]).abs().max())
        noise = max(ahead, float((beside - torch.stack(self.logits)).abs().max()))
        spread = float((whole.amax(-1) - whole.amin(-1)).max())
        eps = torch.finfo(model.dtype).eps
        self.tolerance = spread * eps ** (2 / 3) + min(8 * noise, spread * eps**0.5)
        """How far logits may be off."""
        self.sound = bool(whole.isfinite().all())
        if ahead > self.tolerance and self.sound:
            raise Differs("what it says after a token depends on those that follow, so it is not causal (is_decoder?)")

    def __call__(self, tokens: Tensor) -> Tensor:
        """Logits [L, V] after each of `tokens` [L]."""
        return self._plain(tokens.unsqueeze(0))[0]

    def _plain(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self._model(input_ids=tokens, use_cache=False).logits
        return logits.double()


def _require_equal(model: Any, way: Way, expected: _Reference) -> None:
    """Raise Differs unless `model`, run in this way, says what is expected of it."""
    if way.ragged and not keeps_whole(model.config.get_text_config()):
        raise Differs("it keeps a state that cannot be rolled back row by row")
    if Forward(model, 1).cache_argument is None:
        raise Differs("its forward takes no cache")
    _Run(model, way, expected, len(expected.plan.lengths) if way.ragged else 1).through()


class _Run:
    """One generation by hand: prompts, a block of which little is accepted, single tokens, and a block again."""

    def __init__(self, model: Any, way: Way, expected: _Reference, rows: int) -> None:
        self._tokens, self._rejected, self._expected = expected.tokens[:rows], expected.rejected[:rows], expected
        self._length = torch.tensor(expected.plan.lengths[:rows], device=self._tokens.device)
        vocabulary, capacity = expected.logits[0].shape[-1], self._tokens.shape[1]
        self._runner = way.runner(model, vocabulary, rows, capacity, self._tokens.device)

    def through(self) -> None:
        self._see(self._length, keep=1, what="after the prompt")
        for accepted in self._expected.plan.accepted:
            self._block(accepted)
        self._see(self._length + 1, keep=1, what="after a single token")

    def _block(self, accepted: int) -> None:
        """See the next token and a block, of which the first `accepted` tokens are right; then forget the others."""
        right, places = self._tokens.clone(), torch.arange(self._tokens.shape[1], device=self._tokens.device)
        wrong = places >= (self._length + 1 + accepted).unsqueeze(1)
        self._tokens = self._rejected.where(wrong, right)
        width = 1 + self._expected.plan.block
        self._see(self._length + width, keep=width, what=f"in a block of which {accepted} are accepted")
        self._tokens = right
        self._length = self._length + 1 + accepted
        self._runner.rewind(self._length)

    def _see(self, end: Tensor, keep: int, what: str) -> None:
        logits = self._runner.forward(self._tokens, end, keep).logits.double()
        for at, stop in enumerate(end.tolist()):
            right = self._expected(self._tokens[at, :stop])[-keep:]
            error = float((logits[at] - right).abs().max())
            if not error <= self._expected.tolerance and self._expected.sound:
                beside = " beside a longer row" if at else ""
                raise Differs(f"{what}{beside} its logits are off by {error:.2g}")


def _named(model: Any) -> str:
    return f"this {model.config.model_type} model ({type(model).__name__})"


def _short(error: Exception) -> str:
    return one_line(error if isinstance(error, Differs) else f"{type(error).__name__}: {error}", most=120)
