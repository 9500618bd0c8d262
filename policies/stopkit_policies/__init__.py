"""The policies that come with stopkit, registered as any plug-in registers its own. One file a policy.

Importing the package loads no torch; the hook imports the files.
"""

from importlib import import_module

from stopkit import hookimpl
from stopkit.kinds import Kind

POLICIES = {
    "static": "Static",
    "adaedl": "AdaEDL",
    "max_probability": "MaxProbability",
    "drawn_probability": "DrawnProbability",
    "svip": "SVIP",
    "margin": "Margin",
    "joint_confidence": "JointConfidence",
    "acceptance_head": "AcceptanceHead",
    "heuristic": "Heuristic",
    "staircase": "Staircase",
    "ema_length": "EMALength",
    "batch_table": "BatchTable",
    "entropy_gate": "EntropyGate",
    "best_length": "BestLength",
    "ratio_ucb": "RatioUCB",
    "bandit": "Bandit",
    "goodput": "Goodput",
    "first_of": "FirstOf",
    "all_of": "AllOf",
    "capped": "Capped",
    "warmup": "Warmup",
    "per_position": "PerPosition",
    "guard": "Guard",
}
"""The class in each file, in the order in which they are listed."""


@hookimpl
def stopkit_policies() -> list[type[Kind]]:
    """The built-in policies."""
    return [getattr(import_module(f"stopkit_policies.{file}"), name) for file, name in POLICIES.items()]
