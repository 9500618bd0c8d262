"""A replayed recording has exactly the law of the real engine: what is drafted, accepted and said, round by round."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import stopkit
from stopkit.controller import DraftController
from stopkit.costs import FixedCosts
from stopkit.generation import GenerationOptions
from stopkit.plugins import registry
from stopkit.policy import StoppingPolicy
from stopkit.testing import TableModel
from stopkit.testing.exact import COSTS, total_variation
from stopkit.testing.scripted import Script, ScriptedSource
from stopkit.trace.recorder import Rollouts
from stopkit.trace.replay import replay
from tests.exact.adversarial import Erratic, Periodic, TokenDependent
from tests.exact.recordings import as_trace, every_recording

PROMPT = [1, 0]
MAX_DRAFT = 8  # more than any case can draft; a trace caps what policies draft
POLICIES = [
    "autoregressive",
    "static:length=1",
    "static:length=2",
    "adaedl:threshold=0.45,min_draft=0",
    "max_probability:threshold=0.6",
    "drawn_probability:threshold=0.5",
    Erratic(seed=2),
    Periodic(),
    TokenDependent(stop_at=1),
]
Law = Mapping[Any, float]
"""Probability of tokens and the (drafted, accepted) of every round."""

CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "sampled": ({"vocabulary": 2}, {}, {"max_new_tokens": 4}),
    "short": ({"vocabulary": 2}, {}, {"max_new_tokens": 3}),
    "three tokens": ({"vocabulary": 3}, {}, {"max_new_tokens": 3, "temperature": 0.7}),
    "with an end": ({"vocabulary": 3, "end_of_sequence": 2}, {}, {"max_new_tokens": 3}),
    "truncated": ({"vocabulary": 3, "end_of_sequence": 0}, {}, {"max_new_tokens": 4, "top_k": 2}),
    "a draft of short context": ({"vocabulary": 2}, {"context": 4}, {"max_new_tokens": 4}),
    "a target of short context": ({"vocabulary": 2, "context": 5}, {}, {"max_new_tokens": 4}),
    "greedy": ({"vocabulary": 3}, {}, {"max_new_tokens": 8, "temperature": 0}),
    "greedy with an end": ({"vocabulary": 3, "end_of_sequence": 2}, {}, {"max_new_tokens": 8, "temperature": 0}),
}
"""By name: what the models have in common, what is the draft's own, and the options of the generation."""


@pytest.fixture
def histories(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[int, int]]]:
    """(drafted, accepted) of every round of every row, for all runs of the loop in order."""
    seen: list[list[tuple[int, int]]] = []

    class Watched(DraftController):
        def __init__(self, policy: StoppingPolicy, batch_size: int, *rest: Any, **more: Any) -> None:
            super().__init__(policy, batch_size, *rest, **more)
            self.history: list[list[tuple[int, int]]] = [[] for _ in range(batch_size)]
            seen.extend(self.history)

        def learn(self, accepted: Tensor, seconds: Any = None, **more: Any) -> None:
            rows = zip(self.history, self._round.active.tolist(), self.drafted.tolist(), accepted.tolist(), strict=True)
            for history, active, *block in rows:
                if active:
                    history.append(tuple(block))
            super().learn(accepted, seconds, **more)

    monkeypatch.setattr("stopkit.decode.DraftController", Watched)
    return seen


class Pair:
    """A pair of table models, its options, and every recording of it."""

    def __init__(self, case: str, path: Path) -> None:
        common, own, options = CASES[case]
        generator = torch.Generator().manual_seed(len(case))
        target = TableModel.random(generator=generator, scale=1.0, **common)
        draft = TableModel.random(generator=generator, scale=1.0, **common | own)
        self.engine = registry().engine("eager").from_models(target, draft, costs=COSTS)
        self.options = GenerationOptions(**options)
        recordings = list(every_recording(self.engine, PROMPT, self.options, MAX_DRAFT))
        self.weights = [weight for weight, _ in recordings]
        self.trace = as_trace(path / "t.parquet", [made for _, made in recordings], self.options, MAX_DRAFT)

    def replayed(self, policy: StoppingPolicy, histories: list[list[tuple[int, int]]]) -> Law:
        histories.clear()
        replay(self.trace, policy, [FixedCosts(**COSTS)])
        law: dict[Any, float] = defaultdict(float)
        for row, (weight, history) in enumerate(zip(self.weights, histories, strict=True)):
            tokens = self.trace.output[self.trace.first[row] : self.trace.first[row + 1]].tolist()
            law[tuple(tokens), tuple(history)] += weight
        return law

    def real(self, policy: StoppingPolicy, histories: list[list[tuple[int, int]]]) -> Law:
        law: dict[Any, float] = defaultdict(float)
        waiting: list[Script] = [()]
        while waiting:
            batch, waiting = waiting[-256:], waiting[:-256]
            source = ScriptedSource(batch)
            histories.clear()
            made = self.engine.generate([PROMPT] * len(batch), policy, random=source, **self.options.model_dump())
            for tokens, history, weight in zip(made.tokens, histories, source.weights, strict=True):
                law[tuple(tokens), tuple(history)] += weight
            waiting += [script for _, script in source.alternatives]
        return law


@pytest.fixture(scope="module", params=CASES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(request.param, tmp_path_factory.mktemp("traces"))


def test_every_recording_is_there_once(pair: Pair) -> None:
    assert sum(pair.weights) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("spec", POLICIES, ids=repr)
def test_the_law_of_a_replay_is_that_of_the_engine(
    pair: Pair, spec: Any, histories: list[list[tuple[int, int]]]
) -> None:
    policy = stopkit.load_policy(spec)
    assert total_variation(pair.real(policy, histories), pair.replayed(policy, histories)) <= 1e-12


@pytest.fixture(scope="module")
def three_tokens(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair("three tokens", tmp_path_factory.mktemp("traces"))


@pytest.mark.parametrize("spec", [policy for policy in POLICIES if policy != "autoregressive"], ids=repr)
def test_these_policies_draft_and_accept_in_several_ways(
    three_tokens: Pair, spec: Any, histories: list[list[tuple[int, int]]]
) -> None:
    law = three_tokens.replayed(stopkit.load_policy(spec), histories)
    assert len({history for _, history in law}) >= 2


def _uncoupled(p: Tensor, q: Tensor, output: Tensor) -> Tensor:
    return q


def _always_agreeing(p: Tensor, q: Tensor, output: Tensor) -> Tensor:
    return torch.zeros_like(q).scatter(-1, output.unsqueeze(-1), 1.0)


def _rejecting_to_q(p: Tensor, q: Tensor, output: Tensor) -> Tensor:
    token = output.unsqueeze(-1)
    agrees = (q.gather(-1, token) / p.gather(-1, token)).clamp(max=1)
    return torch.lerp(q, torch.zeros_like(q).scatter(-1, token, 1.0), agrees)


@pytest.fixture(params=[_uncoupled, _always_agreeing, _rejecting_to_q])
def _broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stopkit_engines.hf.recorder.coupled", request.param)


@pytest.mark.usefixtures("_broken")
def test_a_wrong_coupling_is_noticed(tmp_path: Path, histories: list[list[tuple[int, int]]]) -> None:
    pair, policy = Pair("short", tmp_path), stopkit.load_policy("static:length=2")
    assert total_variation(pair.real(policy, histories), pair.replayed(policy, histories)) > 1e-3


def test_rollouts_can_be_cut_anywhere() -> None:
    """Recordings are the same one by one as side by side."""
    common, _, options = CASES["with an end"]
    generator = torch.Generator().manual_seed(5)
    models = [TableModel.random(generator=generator, scale=1.0, **common) for _ in range(2)]
    engine = registry().engine("eager").from_models(*models)

    def law(rollouts: int) -> dict[Any, float]:
        found = every_recording(engine, PROMPT, GenerationOptions(**options), MAX_DRAFT, rollouts)
        return {_key(made): weight for weight, made in found}

    one, many = law(1), law(64)
    assert one.keys() == many.keys()
    assert total_variation(one, many) <= 1e-12


def _key(made: Rollouts) -> tuple[Any, ...]:
    drafted = made.drafted.tolist()
    return (*made.output.tolist(), *(tuple(made.columns["token"][at, :n].tolist()) for at, n in enumerate(drafted)))
