"""The invariant coupling: one text for a prompt and a seed, whatever drafts, and exactly the target's law."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stopkit import InputError
from stopkit.random import SeededRandomSource
from stopkit.testing import TableModel, exact_output_distribution, target_distribution, total_variation
from stopkit_engines.eager import EagerEngine

POLICIES = (
    "static:length=1",
    "static:length=5",
    "adaedl",
    "max_probability:threshold=0.6",
    "goodput",
    "bandit",
    "ema_length",
    "drawn_probability:threshold=0.3",
)
V = 4
PROMPTS = [[0], [1, 2, 3], [3, 3]]
OPTIONS: dict[str, Any] = {"max_new_tokens": 12, "coupling": "invariant"}
sampling = st.fixed_dictionaries(
    {"temperature": st.sampled_from([0.0, 0.5, 1.0, 2.0])},
    optional={"top_k": st.integers(1, V), "top_p": st.floats(0.1, 1), "min_p": st.floats(0, 0.9)},
)


def table(seed: int) -> TableModel:
    return TableModel.random(V, torch.Generator().manual_seed(seed))


@settings(max_examples=60)
@given(
    models=st.tuples(st.integers(0, 99), st.integers(0, 99)),
    policy=st.sampled_from(POLICIES),
    seed=st.integers(0, 2**32),
    batch_size=st.integers(1, 3),
    options=sampling,
)
def test_the_text_depends_on_prompt_and_seed_alone(
    models: tuple[int, int], policy: str, seed: int, batch_size: int, options: dict[str, Any]
) -> None:
    target, draft = map(table, models)
    wanted = [
        EagerEngine.from_models(target).generate([prompt], "autoregressive", seeds=[seed + at], **OPTIONS, **options)
        for at, prompt in enumerate(PROMPTS)
    ]
    engine = EagerEngine.from_models(target, draft)
    seeds = [seed + at for at in range(len(PROMPTS))]
    said = engine.generate(PROMPTS, policy, seeds=seeds, batch_size=batch_size, **OPTIONS, **options)
    assert said.tokens == [alone.tokens[0] for alone in wanted]


@settings(max_examples=25)
@given(model=st.integers(0, 99), options=sampling)
def test_the_law_is_exactly_the_targets(model: int, options: dict[str, Any]) -> None:
    target = table(model)
    law = exact_output_distribution("autoregressive", target, None, [1], 3, coupling="invariant", **options)
    assert total_variation(law, target_distribution(target, [1], 3, **options)) < 1e-12


def test_noise_chooses_by_the_given_probabilities_and_agrees_as_it_should() -> None:
    count = 40_000
    p, q = torch.tensor([0.5, 0.3, 0.2, 0.0]).double(), torch.tensor([0.1, 0.2, 0.3, 0.4]).double()
    source = SeededRandomSource(range(count), torch.device("cpu"))
    rows, places = torch.ones(count, dtype=torch.bool), [7] * count
    drafted = source.race(q.expand(count, 1, -1), places, rows)[:, 0]
    own = source.race(p.expand(count, 2, -1), places, rows)
    for drawn, law in ((drafted, q), (own[:, 0], p), (own[:, 1], p)):
        share = torch.bincount(drawn, minlength=4) / count
        assert (share - law).abs().max() < 4 * (0.25 / count) ** 0.5
    assert (own[:, 0] != own[:, 1]).any()  # another place has other noise
    agrees = sum(1 / torch.maximum(q / q[i], p / p[i]).sum() for i in range(3))
    assert abs((drafted == own[:, 0]).double().mean() - agrees) < 4 * (0.25 / count) ** 0.5


def test_a_target_that_drafts_for_itself_is_always_right() -> None:
    target = table(1)
    result = EagerEngine.from_models(target, target).generate(PROMPTS, "static:length=3", **OPTIONS)
    assert result.stats.acceptance_rate == 1


def test_sources_without_noise_say_so() -> None:
    with pytest.raises(InputError, match="cannot follow drafts of the invariant coupling; use autoregressive"):
        exact_output_distribution("static", table(1), table(2), [1], 3, coupling="invariant")
