"""A replay tells before a round what the recording holds of it; policies within policies are told, too."""

import math
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

import stopkit
from stopkit import RoundContext, State, StoppingPolicy
from stopkit.costs import FixedCosts
from stopkit.trace.replay import replay
from tests.trace.traces import by_chance, trace

COSTS = [FixedCosts(draft_step=cost, verify=1) for cost in (0.1, 0.2)]


class Longer(StoppingPolicy):
    """A token where the text has an odd length and the target was unsure, none elsewhere."""

    kind: ClassVar[str] = "longer"
    context: ClassVar[frozenset[str]] = frozenset({"length", "entropy"})
    looks_at_costs: bool = False

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        wanted = (context.length % 2 == 1) & (context.entropy > 1)
        if self.looks_at_costs:
            wanted = wanted & (context.costs.draft_step < 1)
        return torch.minimum(wanted.long(), context.limit), state


@pytest.mark.parametrize("looks_at_costs", [False, True])
def test_a_replay_tells_what_was_recorded(tmp_path: Path, looks_at_costs: bool) -> None:
    made = trace(tmp_path, by_chance(3, [40, 30, 20]))
    found = replay(made, Longer(looks_at_costs=looks_at_costs), COSTS)
    for sequence, stats in enumerate(found[0].sequences):
        start, end, drafted = int(made.first[sequence]), int(made.first[sequence + 1]), 0
        assert math.isnan(made.entropy[start])
        while start < end:
            wants = bool(made.length[start] % 2 == 1) and bool(made.entropy[start] > 1) and bool(made.limit[start])
            drafted += wants
            start += 1 + (wants and bool(made.run[start]))
        assert stats.drafted == drafted
    assert found[0].stats.drafted > 3
    assert found[0].stats.drafted == found[1].stats.drafted


def test_what_a_member_needs_its_combinator_needs() -> None:
    capped = stopkit.load_policy({"kind": "capped", "policy": Longer()})
    assert capped.required_context == {"length", "entropy"}
    assert stopkit.load_policy({"kind": "all_of", "policies": [capped, "static"]}).required_context == {
        "length",
        "entropy",
    }
    assert stopkit.load_policy("adaedl").required_context == set()
