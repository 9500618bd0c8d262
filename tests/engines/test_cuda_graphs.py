"""Graphs that are captured as they are called. A stand-in for CUDA's capture lets all but CUDA be tried anywhere."""

import gc
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from stopkit_engines import compiled
from stopkit_engines.compiled import Backend, CompiledEngine
from stopkit_engines.eager import EagerEngine
from stopkit_engines.graphs import cuda
from stopkit_engines.graphs.cuda import Replays, Rooms, Use, widened
from tests.engines.conftest import PROMPTS
from tests.engines.models import noisy_copy, random_model

POLICIES = ["static:length=3", "adaedl", "svip", "static:length=1", "autoregressive"]


def in_place(run: Callable[[], Any]) -> tuple[Callable[[], Any], Any]:
    """A capture without CUDA: as a graph does, it reads and writes what it did the first time, and nothing else."""
    for _ in range(cuda.WARM_UP):
        run()
    outputs = tree_map(torch.clone, run())

    def replay() -> None:
        for kept, value in zip(tree_flatten(outputs)[0], tree_flatten(run())[0], strict=True):
            kept.copy_(value)

    return replay, outputs


def refused(run: Callable[[], Any]) -> tuple[Callable[[], Any], Any]:
    raise RuntimeError("operation not permitted\nwhen stream is capturing")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Replays]:
    """All graphs that the compiled engine makes, by the stand-in, on a CPU."""
    several: list[Replays] = []

    def graph(wanted: Any) -> Replays:
        several.append(cuda.captured(wanted, in_place))
        return several[-1]

    monkeypatch.setitem(compiled.BACKENDS, "cpu", Backend(compiled.nothing, graph, in_rooms=True))
    return several


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("prompts", [PROMPTS[:1], PROMPTS], ids=["a row", "rows"])
def test_replays_say_what_the_eager_engine_says(
    target: Any, draft: Any, made: list[Replays], policy: str, prompts: list[list[int]]
) -> None:
    eager, engine = EagerEngine.from_models(target, draft), CompiledEngine.from_models(target, draft)
    for options in ({"temperature": 0}, {"temperature": 0.8, "seed": 3}, {"temperature": 1.3, "seed": 4}):
        said, wanted = (e.generate(prompts, policy, max_new_tokens=20, **options) for e in (engine, eager))
        assert said.tokens == wanted.tokens
        assert said.stats.drafted == wanted.stats.drafted
    assert sum(graph.count for graph in made) > 2
    assert not any(graph._failed for graph in made)


def test_a_cache_that_grows_is_captured_anew_and_found_again(made: list[Replays]) -> None:
    target = random_model()
    models = target, noisy_copy(target)
    engine, asked = CompiledEngine.from_models(*models, trial="never"), {"max_new_tokens": 90, "temperature": 0}
    said = engine.generate(PROMPTS[:1], "static:length=2", **asked)
    assert said.tokens == EagerEngine.from_models(*models).generate(PROMPTS[:1], "static:length=2", **asked).tokens
    counts = [graph.count for graph in made]
    gc.collect()
    assert engine.generate(PROMPTS[:1], "static:length=2", **asked).tokens == said.tokens
    assert [graph.count for graph in made] == counts  # the second generation lives in the rooms of the first


def test_two_generations_at_once_have_rooms_of_their_own(target: Any, draft: Any, made: list[Replays]) -> None:
    engine, asked = CompiledEngine.from_models(target, draft), {"max_new_tokens": 16, "temperature": 0}
    wanted = [engine.generate([prompt], "static:length=3", **asked).tokens for prompt in PROMPTS[:2]]
    both = [engine.begin([prompt], "static:length=3", **asked) for prompt in PROMPTS[:2]]
    while not all(each.finished for each in both):
        for each in both:
            if not each.finished:
                each.step()
    assert [each.result().tokens for each in both] == wanted


def test_what_a_gpu_does_not_capture_runs_eagerly_and_says_why(
    target: Any, draft: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    backend = Backend(compiled.nothing, partial(cuda.captured, capture=refused), in_rooms=True)
    monkeypatch.setitem(compiled.BACKENDS, "cpu", backend)
    asked = {"max_new_tokens": 12, "temperature": 0.7, "seed": 1}
    with caplog.at_level(logging.WARNING, "stopkit"):
        said = CompiledEngine.from_models(target, draft).generate(PROMPTS[:1], "static:length=3", **asked)
    assert (
        said.tokens == EagerEngine.from_models(target, draft).generate(PROMPTS[:1], "static:length=3", **asked).tokens
    )
    warnings = [record.getMessage() for record in caplog.records]
    reason = "runs eagerly: it cannot be captured, RuntimeError: operation not permitted when stream is capturing."
    assert f"engine.draft (one token) {reason}" in warnings
    assert f"propose (one row) {reason}" in warnings
    assert len(set(warnings)) == len(warnings)


def test_inputs_are_copied_in_and_outputs_belong_to_the_caller() -> None:
    graph = Replays("double", lambda x: (x * 2,), Use(), in_place)
    first, second = graph(torch.tensor([1.0, 2.0])), graph(torch.tensor([3.0, 4.0]))
    assert first[0].tolist() == [2, 4]
    assert second[0].tolist() == [6, 8]
    assert graph.count == 1
    assert graph.last is not None
    graph.last()
    assert second[0].tolist() == [6, 8]
    graph(torch.tensor([3.0]))
    graph(torch.tensor([3]))
    assert graph.count == 3


def test_what_is_written_is_written_to_the_caller() -> None:
    """Not as often as it was warmed up."""

    def count(total: Tensor, by: Tensor) -> tuple[Tensor]:
        total += by
        return (total * 1,)

    graph, total = Replays("count", count, Use(written=0), in_place), torch.tensor([10])
    assert graph(total, torch.tensor([1]))[0].tolist() == [11]
    assert graph(total, torch.tensor([2]))[0].tolist() == [13]
    assert total.tolist() == [13]


def test_spans_are_padded_to_the_widths_that_there_are() -> None:
    for width, found in ((1, 1), (8, 8), (9, 12), (33, 48), (64, 64), (65, 65)):
        (span,) = widened((torch.arange(-width, 0),), 0)
        assert span.tolist() == list(range(-found, 0))


def test_no_more_graphs_than_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "MOST", 2)
    graph = Replays("double", lambda x: (x * 2,), Use(), in_place)
    assert [graph(torch.ones(size))[0].sum().item() for size in (1, 2, 3, 1)] == [2, 4, 6, 2]
    assert graph.count == 2


class Owner:
    """Of a cache."""


def test_a_room_is_free_when_its_owner_is_gone_or_needs_more() -> None:
    def cache(slots: int, value: float) -> Any:
        return [(torch.full((1, 1, slots, 2), value), torch.full((1, 1, slots, 2), -value))]

    rooms, first, second = Rooms(), Owner(), Owner()
    own = rooms.place(first, cache(4, 1.0))
    assert rooms.place(first, own) is own
    other = rooms.place(second, cache(4, 2.0))
    assert other is not own
    grown = rooms.place(first, cache(8, 3.0))  # leaves its first room
    third = Owner()
    assert rooms.place(third, cache(4, 5.0)) is own
    assert own[0][0].unique().tolist() == [5]
    del first
    assert rooms.place(Owner(), cache(8, 7.0)) is grown
    assert other[0][1].unique().tolist() == [-2]


@pytest.mark.gpu
@pytest.mark.parametrize("policy", POLICIES)
def test_cuda_graphs_say_what_the_eager_engine_says(policy: str, caplog: pytest.LogCaptureFixture) -> None:
    target = random_model()
    models = target.to("cuda"), noisy_copy(target).to("cuda")
    eager, engine = EagerEngine.from_models(*models), CompiledEngine.from_models(*models)
    with caplog.at_level(logging.WARNING, "stopkit"):
        for prompts in (PROMPTS[:1], PROMPTS):
            for options in ({"temperature": 0}, {"temperature": 0.8, "seed": 3}):
                said, wanted = (e.generate(prompts, policy, max_new_tokens=40, **options) for e in (engine, eager))
                assert said.tokens == wanted.tokens
    assert not caplog.records


@pytest.mark.gpu
def test_a_cuda_graph_replays() -> None:
    graph = Replays("double", lambda x: (x * 2,), Use())
    assert [graph(torch.tensor([n], device="cuda"))[0].item() for n in (1.0, 2.0)] == [2, 4]
    assert graph.count == 1
