"""On the bundled pair a replay does what the eager engine does, within the sampling error.

The exact proof on small models is elsewhere; this asks whether a recording of real models says the same. Both are means
over sequences with a standard error each. Ten differences of at most four standard errors: by chance alone, about one
choice of seeds in a hundred would fail, and the seeds are fixed.
"""

from collections.abc import Callable
from math import sqrt
from statistics import mean, variance

import pytest

import stopkit
from stopkit.costs import FixedCosts
from stopkit.engine import Engine
from stopkit.generation import GenerationOptions
from stopkit.pair.corpus import held_out_prompts
from stopkit.sampling import Sampling
from stopkit.statistics import Statistics
from stopkit.trace.format import Metadata
from stopkit.trace.recorder import RecordingRequest
from stopkit.trace.replay import replay
from stopkit.trace.trace import Trace
from stopkit.trace.writing import TraceWriter

POLICIES = (
    "static:length=3",
    "adaedl",
    "max_probability",
    "drawn_probability",
    "joint_confidence",
)
PROMPTS, TOKENS, MAX_DRAFT, TEMPERATURE = 10, 32, 8, 0.7
COSTS = FixedCosts(draft_step=0.1, verify=1)
FIGURES: dict[str, Callable[[Statistics], float]] = {
    "tokens a round": lambda stats: stats.tokens / stats.rounds,
    "drafted a round": lambda stats: stats.drafted / stats.rounds,
}


@pytest.fixture(scope="module")
def engine() -> Engine:
    return stopkit.load_engine({"kind": "eager", "target": "bundled:target", "draft": "bundled:draft"})


@pytest.fixture(scope="module")
def recorded(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Trace:
    options = GenerationOptions(temperature=TEMPERATURE, max_new_tokens=TOKENS)
    metadata = Metadata(
        target={}, draft={}, tokenizer="", prompts="", sequences=PROMPTS, sampling=Sampling(temperature=TEMPERATURE),
        seed=0, max_new_tokens=TOKENS, max_draft=MAX_DRAFT,
    )  # fmt: skip
    numbers = range(PROMPTS)
    request = RecordingRequest(
        held_out_prompts(PROMPTS), numbers, [1000 + number for number in numbers], options, MAX_DRAFT, PROMPTS
    )
    path = tmp_path_factory.mktemp("bundled") / "t.parquet"
    with TraceWriter(path, metadata) as writer:
        for rollouts in engine.record(request):
            writer.write(rollouts)
    return Trace.open(path)


def test_means_agree_within_the_sampling_error(engine: Engine, recorded: Trace) -> None:
    prompts = held_out_prompts(PROMPTS)
    for spec in POLICIES:
        policy = stopkit.load_policy(spec)
        (replayed,) = replay(recorded, policy, [COSTS])
        made = engine.generate(prompts, policy=policy, temperature=TEMPERATURE, max_new_tokens=TOKENS, seed=7)
        decoded = [continuation.stats for continuation in made.continuations]
        for name, figure in FIGURES.items():
            ours, theirs = ([figure(stats) for stats in side] for side in (replayed.sequences, decoded))
            error = sqrt(variance(ours) / len(ours) + variance(theirs) / len(theirs))
            away = (mean(ours) - mean(theirs)) / error
            assert abs(away) < 4, f"{spec}: {name}: {mean(ours):.3f} replayed, {mean(theirs):.3f} decoded"
