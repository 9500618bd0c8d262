"""Exact output distributions: of the real engine under a policy, and of the target alone."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from stopkit.engine import Engine
from stopkit.generation import GenerationOptions
from stopkit.plugins import registry
from stopkit.policy import StoppingPolicy
from stopkit.spec import load_policy
from stopkit.testing.scripted import Script, ScriptedSource

Distribution = dict[tuple[int, ...], float]
"""Probability of every continuation: `horizon` tokens, or fewer that end with an end-of-sequence token."""

COSTS = {"draft_step": 0.1, "verify": 1.0, "verify_token": 0.05}
"""Seconds: fixed, so that a policy that reads them decides the same in every branch."""

PolicySpec = StoppingPolicy | str | Mapping[str, Any]


def exact_output_distribution(
    policy: PolicySpec,
    target: Any,
    draft: Any,
    prompt: Sequence[int],
    horizon: int,
    *,
    neighbours: Sequence[Sequence[int]] = (),
    engine: str | type[Engine] = "eager",
    rows: int = 256,
    batch_size: int | None = None,
    **sampling: Any,
) -> Distribution:
    """The distribution of what the engine generates after `prompt`, over every random choice it can make.

    The engine is the one users run; only its RandomSource is replaced. Up to `rows` branches run as rows of one batch,
    `neighbours` (other prompts) among them; a policy that couples rows runs one branch at a time. With a `batch_size`
    only so many of a batch's rows run side by side, and the others take the places of those that are done. `sampling`
    takes temperature, top_k, top_p and min_p.
    """
    chosen = load_policy(policy)
    cls = registry().engine(engine) if isinstance(engine, str) else engine
    subject = cls.from_models(target, draft, costs=COSTS, **cls.in_checks)
    if chosen.couples_rows:
        neighbours, rows = (), 1
    prompts = [tuple(prompt), *map(tuple, neighbours)]
    distributions: list[Distribution] = [defaultdict(float) for _ in prompts]
    waiting: list[tuple[int, Script]] = [(which, ()) for which in reversed(range(len(prompts)))]
    while waiting:
        batch, waiting = waiting[-rows:], waiting[:-rows]
        source = ScriptedSource([script for _, script in batch])
        result = subject.generate(
            [prompts[which] for which, _ in batch],
            chosen,
            max_new_tokens=horizon,
            random=source,
            batch_size=batch_size,
            **sampling,
        )
        for (which, _), tokens, weight in zip(batch, result.tokens, source.weights, strict=True):
            distributions[which][tuple(tokens)] += weight
        waiting += [(batch[row][0], script) for row, script in source.alternatives]
    return dict(distributions[0])


def target_distribution(target: Any, prompt: Sequence[int], horizon: int, **sampling: Any) -> Distribution:
    """The target's own distribution, by plain forwards over whole prefixes: no cache, no draft, no engine.

    It shares no arithmetic with the engine: probabilities are those of `reference_probabilities`.
    """
    ends = _end_tokens(target)
    finished: Distribution = {}
    open_: Distribution = {(): 1.0}
    for _ in range(horizon):
        prefixes = torch.tensor([[*prompt, *tokens] for tokens in open_], device=target.device)
        logits = target(input_ids=prefixes).logits[:, -1].tolist()
        grown = {
            (*tokens, token): weight * chance
            for (tokens, weight), row in zip(open_.items(), logits, strict=True)
            for token, chance in enumerate(reference_probabilities(row, **sampling))
            if chance > 0
        }
        finished |= {tokens: weight for tokens, weight in grown.items() if tokens[-1] in ends}
        open_ = {tokens: weight for tokens, weight in grown.items() if tokens[-1] not in ends}
        if not open_:
            break
    return finished | open_


def reference_probabilities(
    logits: Sequence[float],
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
) -> list[float]:
    """What `Sampling.probabilities` must give for one position, written a second time, in plain Python floats."""
    ranked = sorted(range(len(logits)), key=lambda token: -logits[token])
    if temperature == 0:
        return [float(token == ranked[0]) for token in range(len(logits))]
    p = _normalised([math.exp((logit - max(logits)) / temperature) for logit in logits])
    if top_k is not None:
        p = _keep(p, set(ranked[:top_k]))
    if top_p is not None:
        p = _keep(p, {token for rank, token in enumerate(ranked) if sum(p[t] for t in ranked[:rank]) < top_p})
    if min_p is not None:
        p = _keep(p, {token for token in ranked if p[token] >= min_p * p[ranked[0]]})
    return p


def _keep(p: Sequence[float], kept: set[int]) -> list[float]:
    return _normalised([chance if token in kept else 0.0 for token, chance in enumerate(p)])


def _normalised(weights: Sequence[float]) -> list[float]:
    mass = math.fsum(weights)
    return [weight / mass for weight in weights]


def total_variation(p: Distribution, q: Distribution) -> float:
    """Half the sum of absolute differences: the largest difference in probability of any event."""
    return sum(abs(p.get(tokens, 0.0) - q.get(tokens, 0.0)) for tokens in p.keys() | q.keys()) / 2


def assert_distribution_preserved(
    policy: PolicySpec,
    target: Any,
    draft: Any,
    prompt: Sequence[int],
    horizon: int,
    *,
    tolerance: float = 1e-12,
    **options: Any,
) -> float:
    """Raise AssertionError if the policy changes the output distribution; returns the total variation distance.

    `options` are those of `exact_output_distribution`.
    """
    sampling = {name: value for name, value in options.items() if name in GenerationOptions.model_fields}
    expected = target_distribution(target, prompt, horizon, **sampling)
    given = exact_output_distribution(policy, target, draft, prompt, horizon, **options)
    distance = total_variation(expected, given)
    if not distance <= tolerance:
        worst = sorted(
            expected.keys() | given.keys(), key=lambda tokens: -abs(expected.get(tokens, 0) - given.get(tokens, 0))
        )
        lines = [f"  {tokens}: {expected.get(tokens, 0):.6g} → {given.get(tokens, 0):.6g}" for tokens in worst[:5]]
        raise AssertionError(
            f"{policy!r} changes the output: total variation distance {distance:.3g} > {tolerance:.3g} after prompt "
            f"{tuple(prompt)}; target's own probability → the engine's:\n" + "\n".join(lines)
        )
    return distance


def _end_tokens(target: Any) -> set[int]:
    ids = getattr(getattr(target, "generation_config", None), "eos_token_id", None)
    ids = getattr(target.config, "eos_token_id", None) if ids is None else ids
    return set() if ids is None else {ids} if isinstance(ids, int) else set(ids)
