"""At temperature 0 nothing is left to chance: a replay counts what the engine counts, sequence by sequence."""

from pathlib import Path

import pytest

from stopkit import Engine, load_policy
from stopkit.costs import FixedCosts
from stopkit.trace.replay import replay
from stopkit.trace.trace import Trace
from tests.engines.conftest import POLICIES
from tests.trace.conftest import PROMPTS, Record

COSTS = FixedCosts(draft_step=0.1, verify=1.0)
COUNTS = ("tokens", "rounds", "drafted", "accepted", "offered_by_position", "accepted_by_position", "draft_forwards")


@pytest.mark.parametrize("spec", [*POLICIES, "drawn_probability", "margin", "heuristic"])
def test_a_replay_counts_what_the_engine_counts(spec: str, engine: Engine, recording: Record, tmp_path: Path) -> None:
    options = {"temperature": 0, "max_new_tokens": 24}
    recording(**options, max_draft=23).run(tmp_path / "t.parquet")
    (replayed,) = replay(Trace.open(tmp_path / "t.parquet"), load_policy(spec), [COSTS])
    for prompt, counted in zip(PROMPTS, replayed.sequences, strict=True):
        real = engine.generate(prompt, spec, **options).stats
        assert {name: getattr(counted, name) for name in COUNTS} == {name: getattr(real, name) for name in COUNTS}
