"""Every built-in policy read a second time: one sequence, plain floats, written from the formulas and their sources.

Nothing here is shared with stopkit but the names of kinds, fields and state values. `reading(block)` makes the
reference of a config block, as `load_policy` makes the policy.
"""

from typing import Any

from tests.policies.references.base import KINDS, Block, Reading, Seconds, Seen, Told, learn_together
from tests.policies.references.choosing import AllOf, Bandit, Capped, FirstOf, Guard, PerPosition, Warmup
from tests.policies.references.goodput import Goodput
from tests.policies.references.lengths import (
    BatchTable,
    BestLength,
    EmaLength,
    EntropyGate,
    Heuristic,
    RatioUcb,
    Staircase,
    Static,
)
from tests.policies.references.thresholds import (
    AcceptanceHead,
    AdaEDL,
    DrawnProbability,
    JointConfidence,
    Margin,
    MaxProbability,
    Svip,
)

__all__ = ["Block", "Reading", "Seconds", "Seen", "Told", "learn_together", "reading"]

KINDS |= {
    "static": Static,
    "heuristic": Heuristic,
    "staircase": Staircase,
    "entropy_gate": EntropyGate,
    "ratio_ucb": RatioUcb,
    "ema_length": EmaLength,
    "batch_table": BatchTable,
    "best_length": BestLength,
    "adaedl": AdaEDL,
    "max_probability": MaxProbability,
    "drawn_probability": DrawnProbability,
    "svip": Svip,
    "margin": Margin,
    "joint_confidence": JointConfidence,
    "acceptance_head": AcceptanceHead,
    "first_of": FirstOf,
    "all_of": AllOf,
    "capped": Capped,
    "guard": Guard,
    "warmup": Warmup,
    "per_position": PerPosition,
    "bandit": Bandit,
    "goodput": Goodput,
}


def reading(block: dict[str, Any]) -> Reading:
    """The reference for one sequence of the policy that `block` describes."""
    return Reading.of(block)
