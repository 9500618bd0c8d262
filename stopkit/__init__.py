"""Pluggable draft-stopping policies for speculative decoding, with outputs proven unchanged.

Names are imported on first use, so `import stopkit` costs nothing and loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stopkit.combinator import Combinator, NestedPolicy, SideBySide
    from stopkit.config import Config, load_config, load_engine
    from stopkit.controller import DraftController
    from stopkit.costs import Costs
    from stopkit.engine import Engine
    from stopkit.errors import GenerationError, InputError, PolicyError, StopkitError
    from stopkit.generation import GenerationResult
    from stopkit.hookspecs import hookimpl
    from stopkit.loaded import assisted, wrap
    from stopkit.policy import CarryOver, Drawn, RoundContext, RoundOutcome, StoppingPolicy
    from stopkit.scalar import ScalarPolicy
    from stopkit.signals import Signals
    from stopkit.spec import load_policy
    from stopkit.state import State
    from stopkit.threshold import ThresholdPolicy
    from stopkit.trace.ranking import Ranking, replay

_HOMES = {
    "CarryOver": "policy",
    "Combinator": "combinator",
    "Config": "config",
    "Costs": "costs",
    "DraftController": "controller",
    "Drawn": "policy",
    "Engine": "engine",
    "GenerationError": "errors",
    "GenerationResult": "generation",
    "InputError": "errors",
    "NestedPolicy": "combinator",
    "PolicyError": "errors",
    "Ranking": "trace.ranking",
    "RoundContext": "policy",
    "RoundOutcome": "policy",
    "ScalarPolicy": "scalar",
    "SideBySide": "combinator",
    "Signals": "signals",
    "State": "state",
    "StopkitError": "errors",
    "StoppingPolicy": "policy",
    "ThresholdPolicy": "threshold",
    "assisted": "loaded",
    "hookimpl": "hookspecs",
    "load_config": "config",
    "load_engine": "config",
    "load_policy": "spec",
    "replay": "trace.ranking",
    "wrap": "loaded",
}

__version__ = "0.1.0"
__all__ = [
    "CarryOver",
    "Combinator",
    "Config",
    "Costs",
    "DraftController",
    "Drawn",
    "Engine",
    "GenerationError",
    "GenerationResult",
    "InputError",
    "NestedPolicy",
    "PolicyError",
    "Ranking",
    "RoundContext",
    "RoundOutcome",
    "ScalarPolicy",
    "SideBySide",
    "Signals",
    "State",
    "StopkitError",
    "StoppingPolicy",
    "ThresholdPolicy",
    "assisted",
    "hookimpl",
    "load_config",
    "load_engine",
    "load_policy",
    "replay",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'stopkit' has no attribute {name!r}")
    value = getattr(import_module(f"stopkit.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
