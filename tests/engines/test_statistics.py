"""The statistics are exact: they add up, and they count what really ran."""

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from stopkit import Engine, RoundContext, State, StoppingPolicy
from stopkit.plugins import registry
from tests.engines.conftest import POLICIES, PROMPTS


@pytest.mark.parametrize("policy", POLICIES)
def test_they_add_up(engine: Engine, policy: str) -> None:
    result = engine.generate(PROMPTS, policy, temperature=0.7, max_new_tokens=50)
    stats, rows = result.stats, [continuation.stats for continuation in result.continuations]
    for field in ("tokens", "rounds", "drafted", "accepted", "nonfinite_drafts"):
        assert getattr(stats, field) == sum(getattr(row, field) for row in rows)
    assert stats.tokens == sum(map(len, result.tokens)) == stats.accepted + stats.rounds
    assert stats.drafted == sum(stats.offered_by_position)
    assert stats.accepted == sum(stats.accepted_by_position)
    assert len(stats.offered_by_position) == len(stats.accepted_by_position)
    assert all(a <= o for a, o in zip(stats.accepted_by_position, stats.offered_by_position, strict=True))
    assert stats.offered_by_position == sorted(stats.offered_by_position, reverse=True)
    assert stats.acceptance_rate == (stats.accepted / stats.drafted if stats.drafted else 0)
    assert stats.block_efficiency == stats.tokens / stats.rounds
    assert stats.target_forwards == max(row.rounds for row in rows)
    assert set(stats.seconds) == {"draft", "verify", "policy", "other"}
    assert min(stats.seconds.values()) >= 0
    assert stats.tokens_per_second == pytest.approx(stats.tokens / sum(stats.seconds.values()))


@pytest.mark.parametrize("policy", POLICIES)
def test_forwards_are_counted(engine: Engine, target: Any, draft: Any, policy: str) -> None:
    calls: dict[str, int] = {"target": 0, "draft": 0}

    def count(name: str) -> Any:
        def hook(*_: Any) -> None:
            calls[name] += 1

        return hook

    hooks = [target.register_forward_hook(count("target")), draft.register_forward_hook(count("draft"))]
    stats = engine.generate(PROMPTS[0], policy, temperature=0.7, max_new_tokens=40).stats
    for hook in hooks:
        hook.remove()
    assert calls == {"target": stats.target_forwards, "draft": stats.draft_forwards}
    assert stats.block_efficiency == stats.tokens / stats.target_forwards


class FirstRowOnly(StoppingPolicy):
    """Only the first row speculates, and only after ten rounds."""

    kind: ClassVar[str] = "first_row_only"

    def init(self, batch_size: int, device: torch.device) -> State:
        return State(rows={"round": torch.zeros(batch_size, dtype=torch.long)})

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        late = (state.rows["round"] >= 10) & (torch.arange(len(context.limit)) == 0)
        return context.limit.clamp(max=2) * late, State(rows={"round": state.rows["round"] + 1})


def test_a_draft_that_no_row_asks_for_is_never_run(target: Any, draft: Any) -> None:
    engine = registry().engine("eager").from_models(target, draft)

    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("the draft was run")

    draft.forward = forbidden
    try:
        stats = engine.generate(PROMPTS, "static:length=0", max_new_tokens=20).stats
    finally:
        del draft.forward
    assert (stats.draft_forwards, stats.drafted, stats.seconds["draft"]) == (0, 0, 0)


def test_a_row_that_never_drafts_costs_no_draft_forward_and_one_can_catch_up(engine: Engine) -> None:
    result = engine.generate(PROMPTS, FirstRowOnly(), temperature=0, max_new_tokens=30)
    first, *others = [continuation.stats for continuation in result.continuations]
    assert first.drafted > 0
    assert all(stats.drafted == 0 and stats.rounds == 30 for stats in others)
    assert result.stats.draft_forwards == 2 * first.offered_by_position[0] - (
        first.offered_by_position[0] - first.offered_by_position[1]
    )


def test_costs_are_measured_or_fixed(target: Any, draft: Any) -> None:
    seen: list[tuple[float, float, float, float]] = []

    class Watcher(StoppingPolicy):
        kind: ClassVar[str] = "watcher"

        def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
            return context.limit.clamp(max=2), state

        def learn(self, state: State, outcome: Any) -> State:
            costs = outcome.context.costs
            seen.append(
                (*(float(c) for c in (costs.draft_step, costs.verify, costs.verify_token)), float(outcome.seconds))
            )
            return state

    eager = registry().engine("eager")
    eager.from_models(target, draft).generate(PROMPTS, Watcher(), max_new_tokens=30)
    assert all(0 < draft_step < 10 and 0 < verify < 10 for draft_step, verify, _, _ in seen[3:])
    assert len({verify for _, verify, _, _ in seen}) > 3
    seen.clear()
    fixed = {"draft_step": 0.001, "verify": 0.01, "verify_token": 0.0005}
    eager.from_models(target, draft, costs=fixed).generate(PROMPTS[0], Watcher(), max_new_tokens=30)
    assert {costs for *costs_, seconds in seen for costs in [tuple(costs_)]} == {(0.001, 0.01, 0.0005)}
    assert seen[0][-1] == pytest.approx(2 * 0.001 + 0.01 + 2 * 0.0005)


def test_a_draft_forward_whose_position_was_refused_is_paid_for_too(target: Any, draft: Any) -> None:
    seen: list[float] = []

    class OneOfTwo(StoppingPolicy):
        """Admits the first position and looks at the second."""

        kind: ClassVar[str] = "one_of_two"

        def admit(self, state: State, position: Tensor, signals: Any) -> tuple[Tensor, State]:
            return position < 1, state

        def learn(self, state: State, outcome: Any) -> State:
            seen.append(float(outcome.seconds))
            return state

    fixed = {"draft_step": 0.001, "verify": 0.01, "verify_token": 0.0005}
    engine = registry().engine("eager").from_models(target, draft, costs=fixed)
    stats = engine.generate(PROMPTS[0], OneOfTwo(), max_new_tokens=9).stats
    assert stats.draft_forwards > stats.drafted == stats.offered_by_position[0]
    assert seen[0] == pytest.approx(2 * 0.001 + 0.01 + 0.0005)
