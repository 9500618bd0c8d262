"""Bounds are above whoever they bound, whatever verification costs."""

from pathlib import Path

import pytest
import torch

from stopkit.costs import FixedCosts
from stopkit.sampling import Sampling
from stopkit.spec import load_policy
from stopkit.trace.bounds import bounds
from stopkit.trace.comparison import servable
from stopkit.trace.costs import measured_costs
from stopkit.trace.format import Metadata, Timings
from stopkit.trace.recorder import Rollouts
from stopkit.trace.replay import replay
from stopkit.trace.trace import Trace
from stopkit.trace.writing import TraceWriter

SEQUENCES, TOKENS, LONGEST = 12, 120, 8
EASY, HARD = 0.93, 0.35


def _timings(draft: float, token: float, block: float) -> Timings:
    """What a machine measures on which a block costs `block` target steps before its first token."""
    return Timings(draft_step=draft, verify=(1.0, *(1.0 + block + token * length for length in range(1, LONGEST + 1))))


COSTS = [_timings(0.1, 0.02, 0.0), _timings(0.1, 0.02, 0.9), _timings(0.02, 0.0, 1.2)]
SELECTIVE = "max_probability:min_draft=0,threshold=0.65,max_draft=8"
"""Sees a hard stretch before anything of it is in the block, and then drafts nothing."""


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """Easy and hard stretches that the draft sees through a fog; tokens are accepted with the probability β."""
    chance = torch.Generator().manual_seed(0)
    metadata = Metadata(
        target={"name": "chance"},
        draft={"name": "chance"},
        tokenizer="",
        prompts="",
        sequences=SEQUENCES,
        sampling=Sampling(temperature=1.0),
        seed=0,
        max_new_tokens=TOKENS,
        max_draft=LONGEST,
    )
    path: Path = tmp_path_factory.mktemp("bounds") / "t.parquet"
    with TraceWriter(path, metadata) as writer:
        for number in range(SEQUENCES):
            writer.write(_rollouts(number, chance))
    return Trace.open(path)


def _rollouts(number: int, chance: torch.Generator) -> Rollouts:
    shape = TOKENS, LONGEST
    beta = torch.where(torch.rand(TOKENS, 1, generator=chance) < 0.5, EASY, HARD).expand(shape)
    seen = (beta + 0.1 * torch.randn(shape, generator=chance)).clamp(0.02, 0.98)
    accepted = (torch.rand(shape, generator=chance) < beta).long().cumprod(1).bool()
    columns = dict.fromkeys(("max_probability", "margin", "drawn_probability"), seen) | {
        "entropy": 3 * (1 - seen),
        "beta": beta.contiguous(),
        "acceptance": beta.contiguous(),
        "accepted": accepted,
        "token": torch.zeros(shape, dtype=torch.long),
        "top_token": torch.zeros(shape, dtype=torch.long),
    }
    limit = TOKENS - 1 - torch.arange(TOKENS)
    zeros = torch.zeros(TOKENS, dtype=torch.long)
    return Rollouts(number, zeros, zeros, limit, limit.clamp(max=LONGEST), columns)


@pytest.mark.parametrize("timings", COSTS, ids=lambda timings: f"{timings.draft_step:g} {timings.verify[1]:g}")
def test_no_policy_is_above_a_bound(trace: Trace, timings: Timings) -> None:
    costs = measured_costs(trace.metadata.model_copy(update={"timings": timings}), "t")
    highest = {name: bound.speedup for name, bound in bounds(trace, costs).items()}
    assert highest["hindsight"] >= highest["clairvoyant"] >= highest["best_static"] >= highest["autoregressive"] == 1
    policies, _ = servable(trace)
    for name, policy in {**policies, SELECTIVE: load_policy(SELECTIVE)}.items():
        (reached,) = replay(trace, policy, [costs])
        assert reached.speedup <= highest["clairvoyant"], f"{name} is above the clairvoyant"


def test_a_block_that_does_not_pay_for_itself_is_not_drafted(trace: Trace) -> None:
    """In a hard stretch every token is worth its own step, and the block is not worth what it adds to verification."""
    stats = bounds(trace, FixedCosts(draft_step=0.02, verify=1.0, verify_block=1.2))["clairvoyant"].stats
    assert 0 < stats.offered_by_position[0] < 0.7 * stats.rounds
