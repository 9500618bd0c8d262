"""Sampling: the output's distribution is the target's, after temperature and truncation."""

from collections import Counter

import torch
from hypothesis import strategies as st
from torch import Tensor

from stopkit.engine import Engine
from stopkit.testing.checks import Draw, Skipped
from stopkit.testing.exact import assert_distribution_preserved, reference_probabilities, target_distribution
from stopkit.testing.for_engines.drafting import blocks
from stopkit.testing.for_engines.workloads import over, workloads
from stopkit.testing.strategies import cases

ROWS = 2000
IMPROBABLE = 1e-6
"""A chi-square test of a right engine fails this often on each example."""


def the_output_distribution_is_the_targets(engine: type[Engine], draw: Draw) -> None:
    """Every random choice enumerated, the output's distribution is the target's to 1e-12."""
    if not engine.enumerable:
        raise Skipped("the engine draws by itself and not through Request.random, so its choices cannot be enumerated")
    case = draw(cases())
    over(engine, case.target, case.draft)
    assert_distribution_preserved(
        draw(blocks(case.target.config.vocab_size)),
        case.target,
        case.draft,
        case.prompt,
        case.horizon,
        neighbours=case.neighbours,
        engine=engine,
        **case.sampling,
    )


def samples_fit_the_targets_distribution(engine: type[Engine], draw: Draw) -> None:
    """Outputs drawn with the engine's own randomness fit the target's distribution (chi-square, seeded)."""
    case = draw(cases())
    policy, seed = draw(blocks(case.target.config.vocab_size)), draw(st.integers(0, 1000))
    subject = over(engine, case.target, case.draft)
    result = subject.generate([case.prompt] * ROWS, policy, seed=seed, max_new_tokens=case.horizon, **case.sampling)
    drawn = Counter(map(tuple, result.tokens))
    expected = target_distribution(case.target, case.prompt, case.horizon, **case.sampling)
    impossible = drawn.keys() - expected.keys()
    assert not impossible, f"generated {min(impossible)}, which the target never says"
    counts = torch.tensor([drawn[tokens] for tokens in expected], dtype=torch.float64)
    chances = torch.tensor(list(expected.values()), dtype=torch.float64)
    p = p_value(counts, ROWS * chances)
    worst = list(expected)[int((counts - ROWS * chances).abs().argmax())]
    assert p > IMPROBABLE, (
        f"{ROWS} outputs do not fit the target's distribution: p = {p:.1e}; {worst} was drawn {drawn[worst]} times, "
        f"and {ROWS * expected[worst]:.1f} times are to be expected"
    )


def p_value(drawn: Tensor, expected: Tensor) -> float:
    """The p-value of Pearson's chi-square test, with outcomes pooled that are expected fewer than ten times."""
    rare = expected < 10
    pooled = [torch.cat([counts[~rare], counts[rare].sum()[None]]) for counts in (drawn, expected)]
    statistic = ((pooled[0] - pooled[1]) ** 2 / pooled[1].clamp(min=1e-9)).sum()
    degrees = len(pooled[0]) - (1 if pooled[1][-1] > 0 else 2)
    half = torch.tensor(max(degrees, 1) / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(half, statistic / 2))


def tokens_that_truncation_removes_are_never_generated(engine: type[Engine], draw: Draw) -> None:
    """Temperature, top-k, top-p and min-p are obeyed at every position."""
    work = draw(workloads())
    for prompt, tokens in zip(work.prompts, work.run(engine).tokens, strict=True):
        logits = work.target(input_ids=torch.tensor([prompt + tokens])).logits[0].tolist()
        for at, token in enumerate(tokens, start=len(prompt)):
            allowed = reference_probabilities(logits[at - 1], **work.sampling)
            assert allowed[token] > 0, (
                f"{work.sampling} allows {[t for t, p in enumerate(allowed) if p > 0]} after "
                f"{(prompt + tokens)[:at]}, and {token} was generated"
            )


def logits_processors_are_applied(engine: type[Engine], draw: Draw) -> None:
    """A token that a logits processor forbids after some prefix is not generated after it."""
    work = draw(workloads())
    vocabulary = work.target.config.vocab_size

    def forbid(prefix: Tensor, scores: Tensor) -> Tensor:
        # What is forbidden follows from the last token and the length, so that a wrong prefix shows.
        return scores.scatter(1, (prefix[:, -1:] + prefix.shape[1]) % vocabulary, -torch.inf)

    for prompt, tokens in zip(work.prompts, work.run(engine, logits_processor=[forbid]).tokens, strict=True):
        whole = prompt + tokens
        for at in range(len(prompt), len(whole)):
            assert whole[at] != (whole[at - 1] + at) % vocabulary, (
                f"{whole[at]} was generated after {whole[:at]}, and a logits processor forbids that"
            )
