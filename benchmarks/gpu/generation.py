"""Whole generations: against transformers' assisted generation, and the share of a round in which policies decide."""

import statistics
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch

from gpu.lines import Line, Setting, at_most
from gpu.pairs import heavy, loaded, pairs, prompt, seconds_of
from stopkit.plugins import registry

REPEATS = 3


def assisted(setting: Setting) -> Iterator[Line]:
    """A line without ballast and one a pair of sizes: compiled against transformers, greedy, draft length 4."""
    for pair in (None, *pairs(setting)):
        engine = loaded("compiled", setting)
        with nullcontext() if pair is None else heavy(engine, pair):
            ours, theirs = [], []
            for repeat in range(2 if setting.small else REPEATS + 1):
                ours.append(seconds_of(lambda engine=engine: mine(engine, setting.tokens)))
                theirs.append(seconds_of(lambda engine=engine: of_transformers(engine, setting.tokens)))
                if repeat == 0:  # the first is the warm-up
                    ours, theirs = [], []
            ratios = [there / here for here, there in zip(ours, theirs, strict=True)]
            ratio = statistics.median(ratios)
            span = f" ({min(ratios):.2f} – {max(ratios):.2f})"
            name = "no ballast" if pair is None else f"ballast {' and '.join(pair)}"
            met = ratio > 1 if setting.cuda else None
            yield Line(f"compiled / assisted generation, {name}", "> 1 ×", f"{ratio:.2f} ×{span}", met, ratio)


def mine(engine: Any, tokens: int) -> None:
    """A generation by stopkit."""
    engine.generate([prompt(engine)], "static:length=4", temperature=0, max_new_tokens=tokens)


def of_transformers(engine: Any, tokens: int) -> None:
    """The same by transformers."""
    models = engine.models
    ids = torch.tensor([prompt(engine)], device=models.target.device)
    models.draft.generation_config.num_assistant_tokens = 4
    models.draft.generation_config.num_assistant_tokens_schedule = "constant"
    models.draft.generation_config.assistant_confidence_threshold = 0.0
    models.target.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        assistant_model=models.draft,
        do_sample=False,
        max_new_tokens=tokens,
        min_new_tokens=tokens,
    )


def deciding(setting: Setting) -> Iterator[Line]:
    """The worst policy's share of the time of its rounds, with the larger ballast."""
    pair, limit = pairs(setting)[0], 0.01
    engine, shares = loaded("compiled", setting), {}
    policies = [kind for kind in registry().policies if kind != "autoregressive"][: 3 if setting.small else None]
    with heavy(engine, pair):
        for policy in policies:
            if setting.left < 5:
                break
            asked: dict[str, Any] = {"temperature": 0.7, "max_new_tokens": setting.tokens}
            engine.generate([prompt(engine)], policy, **asked)
            seconds = engine.generate([prompt(engine)], policy, **asked).stats.seconds
            shares[policy] = seconds["policy"] / sum(seconds.values())
    worst = max(shares, key=lambda policy: shares[policy])
    within = sum(share <= limit for share in shares.values())
    more = f" ({worst}; {within} of {len(policies)} within)"
    line = at_most(f"deciding, share of a round, {' and '.join(pair)}", limit, shares[worst], "{:.1%}", more)
    met = (line.met and len(shares) == len(policies)) if setting.cuda else None
    yield line._replace(met=met)
