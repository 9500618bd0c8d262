"""What `generate` draws through stopkit has the law that it draws by itself."""

from typing import Any

import pytest
import torch
from transformers import LogitsProcessorList
from transformers.generation import (
    EpsilonLogitsWarper,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

import stopkit
from stopkit.sampling import Sampling, softmax
from stopkit.testing import target_distribution
from stopkit_engines.generate.law import law
from tests.engines.models import noisy_copy
from tests.engines.test_chi_square import HORIZON, PROMPT, p_value, small_model

ROWS, BATCHES = 2500, 8


@pytest.mark.parametrize(
    ("options", "policy"),
    [({"top_k": 0}, "adaedl:threshold=0.4"), ({"top_k": 3, "temperature": 0.7}, "static:length=3")],
    ids=["plain", "truncated"],
)
def test_the_law_of_the_output(options: dict[str, Any], policy: str) -> None:
    target = small_model()
    draft = noisy_copy(target, noise=0.03)
    named = {name: value for name, value in options.items() if value}
    with torch.no_grad():
        expected = target_distribution(target, PROMPT, HORIZON, **({"temperature": 1.0} | named))
    found = dict.fromkeys(expected, 0)
    torch.manual_seed(5)
    for _ in range(BATCHES):
        output = target.generate(
            torch.tensor([PROMPT]),
            do_sample=True,
            max_new_tokens=HORIZON,
            num_return_sequences=ROWS,
            custom_generate=stopkit.assisted,
            draft_model=draft,
            policy=policy,
            return_dict_in_generate=True,
            **options,
        )
        for tokens in output.sequences[:, len(PROMPT) :].tolist():
            found[tuple(tokens)] += 1
        assert 0.3 < output.stats.acceptance_rate < 0.98  # both branches of verification are busy
    count = ROWS * BATCHES
    assert p_value(torch.tensor([*found.values()]), torch.tensor([*expected.values()]) * count) > 1e-3


def test_a_criterion_does_not_bend_the_law() -> None:
    """An end that looks at the text leaves the law of the text before it as it is, however far the block went on."""
    target = small_model()
    draft = noisy_copy(target, noise=0.03)
    torch.manual_seed(6)
    output = target.generate(
        torch.tensor([PROMPT]).repeat(5000, 1),
        do_sample=True,
        top_k=0,
        max_new_tokens=HORIZON,
        eos_token_id=99,
        pad_token_id=0,
        stopping_criteria=[lambda ids, scores: ids[:, -1] == 2],
        custom_generate=stopkit.assisted,
        draft_model=draft,
        policy="static:length=3",
    )
    with torch.no_grad():
        expected = target_distribution(target, PROMPT, HORIZON, temperature=1.0)
    wanted: dict[tuple[int, ...], float] = {}
    for tokens, probability in expected.items():
        cut = tokens.index(2) + 1 if 2 in tokens else HORIZON
        text = (*tokens[:cut], *[0] * (HORIZON - cut))
        wanted[text] = wanted.get(text, 0.0) + probability
    found = dict.fromkeys(wanted, 0)
    for row in output[:, len(PROMPT) :].tolist():
        found[tuple(row)] += 1
    assert p_value(torch.tensor([*found.values()]), torch.tensor([*wanted.values()]) * len(output)) > 1e-3


LISTS = {
    "nothing": [],
    "all": [TemperatureLogitsWarper(0.7), TopKLogitsWarper(9), TopPLogitsWarper(0.8), MinPLogitsWarper(0.05)],
    "some": [TopKLogitsWarper(5), MinPLogitsWarper(0.2)],
    "a penalty before": [RepetitionPenaltyLogitsProcessor(1.5), TemperatureLogitsWarper(1.3), TopPLogitsWarper(0.6)],
    "a cut without a name": [TemperatureLogitsWarper(0.7), TopKLogitsWarper(9), EpsilonLogitsWarper(0.05)],
    "another order": [TopPLogitsWarper(0.6), TemperatureLogitsWarper(0.7)],
    "twice": [TemperatureLogitsWarper(0.7), TopKLogitsWarper(9), TopKLogitsWarper(4)],
    "one at least": [TopPLogitsWarper(0.0)],
    "two at least": [TopPLogitsWarper(0.1, min_tokens_to_keep=2)],
    "a filter of one's own": [TopKLogitsWarper(4, filter_value=-3.0)],
}


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("name", LISTS)
def test_numbers_and_processors_are_one_law(name: str, whole: bool) -> None:
    torch.manual_seed(1)
    ids, logits = torch.randint(0, 20, (50, 6)), 3 * torch.randn(50, 20)
    processors = LogitsProcessorList(LISTS[name])
    made = law(processors, sample=True, whole=whole)
    rest = LogitsProcessorList(made.processors)(ids, logits.clone())
    torch.testing.assert_close(
        Sampling(**made.sampling).probabilities(rest), softmax(processors(ids, logits.clone())), atol=1e-6, rtol=1e-5
    )


def test_what_has_a_name_is_told_in_numbers() -> None:
    made = law(LISTS["a penalty before"], sample=True, whole=False)
    assert made.sampling == {"temperature": 1.3, "top_p": 0.6}
    assert [type(each) for each in made.processors] == [RepetitionPenaltyLogitsProcessor]
    assert law(LISTS["all"], sample=True, whole=False).processors == []
    assert law(LISTS["all"], sample=False, whole=False).sampling == {"temperature": 0.0}
