"""What a policy is told before a round, the length and the target's entropy, is true on any engine and in any row."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
import torch
from pydantic import PrivateAttr
from torch import Tensor

from stopkit import RoundContext, State, StoppingPolicy, load_policy
from stopkit.generation import GenerationOptions
from stopkit.plugins import registry
from stopkit.sampling import softmax
from tests.engines.conftest import PROMPTS

NEW_TOKENS = 9


class Listener(StoppingPolicy):
    """Drafts three tokens, and keeps what it is told of every row that is active."""

    kind: ClassVar[str] = "listener"
    context: ClassVar[frozenset[str]] = frozenset({"entropy"})

    _told: list[tuple[int, int, float]] = PrivateAttr(default_factory=list)

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        told = zip(context.last_token.tolist(), context.length.tolist(), context.entropy.tolist(), strict=True)
        self._told.extend(row for row, active in zip(told, context.active.tolist(), strict=True) if active)
        return context.limit.clamp(max=3), state


class Deaf(Listener):
    """The same, and does not ask for the entropy."""

    context: ClassVar[frozenset[str]] = frozenset()


class Nudge:
    """A processor that favours the token after the last one."""

    def __call__(self, tokens: Tensor, scores: Tensor) -> Tensor:
        return scores + 3.0 * torch.nn.functional.one_hot((tokens[:, -1] + 1) % scores.shape[1], scores.shape[1])


def expected(
    target: Any, prompts: Sequence[list[int]], outputs: Sequence[list[int]], options: GenerationOptions, nudged: bool
) -> set[tuple[int, int, float]]:
    """All that could be told, at every place of every text."""
    told = set()
    for prompt, output in zip(prompts, outputs, strict=True):
        told.add((prompt[-1], len(prompt), math.nan))
        for count in range(1, len(output)):
            text = [*prompt, *output[:count]]
            scores = target(input_ids=torch.tensor([text[:-1]])).logits[0, -1]
            if nudged:
                scores = Nudge()(torch.tensor([text[:-1]]), scores.unsqueeze(0))[0]
            p = softmax(scores) if options.temperature == 0 else options.probabilities(scores)
            told.add((text[-1], len(text), float(torch.special.entr(p.detach()).sum())))
    return told


@pytest.mark.parametrize("kind", ["eager", "compiled"])
@pytest.mark.parametrize("batch_size", [1, 2, None])
@pytest.mark.parametrize(
    ("sampling", "nudged"), [({"temperature": 0}, False), ({"temperature": 0.7, "top_k": 6}, True)]
)
def test_every_round_is_told_the_truth(
    target: Any, draft: Any, kind: str, batch_size: int | None, sampling: dict[str, Any], nudged: bool
) -> None:
    cls = registry().engine(kind)
    engine, policy = cls.from_models(target, draft, **cls.in_checks), Listener()
    processors = [Nudge()] if nudged else []
    made = engine.generate(
        PROMPTS, policy, max_new_tokens=NEW_TOKENS, batch_size=batch_size, logits_processor=processors, **sampling
    )
    possible = expected(target, PROMPTS, made.tokens, GenerationOptions(**sampling), nudged)
    for last, length, entropy in policy._told:
        assert any(
            (last, length) == (token, size)
            and (math.isclose(entropy, nats, abs_tol=2e-4) or (math.isnan(entropy) and math.isnan(nats)))
            for token, size, nats in possible
        ), (last, length, entropy)
    assert sum(math.isnan(entropy) for *_, entropy in policy._told) == len(PROMPTS), "once a sequence, as it begins"
    assert len(policy._told) == made.stats.rounds


def test_what_nobody_asks_for_is_not_computed(target: Any, draft: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, policy = registry().engine("eager").from_models(target, draft), Deaf()
    monkeypatch.setattr("stopkit_engines.batch.decoding.entropy", None)
    engine.generate(PROMPTS, policy, max_new_tokens=NEW_TOKENS)
    assert all(math.isnan(entropy) for *_, entropy in policy._told)
    assert all(length > 0 for _, length, _ in policy._told)
    with pytest.raises(TypeError):
        engine.generate(PROMPTS, load_policy({"kind": "capped"}).model_copy(update={"policy": Listener()}))
