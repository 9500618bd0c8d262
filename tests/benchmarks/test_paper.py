"""The paper's experiment: costs are found again, and claims are counted as they are."""

from types import ModuleType
from typing import Any

import pytest

from tests.benchmarks.test_gpu_check import BENCHMARKS
from tests.docs.test_measured import loaded


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import paper

    return paper


@pytest.mark.parametrize(("acceptance", "cost"), [(0.6, 0.05), (0.8, 0.12), (0.4, 0.3)])
def test_costs_are_found_again_from_speeds(paper: ModuleType, acceptance: float, cost: float) -> None:
    def rate(length: int) -> float:
        tokens = sum(acceptance**position for position in range(length + 1))
        return 25.0 * tokens / (1 + length * cost)

    fit = paper.fitted({length: rate(length) for length in (0, 3, 7, 16)})
    assert fit["acceptance"] == pytest.approx(acceptance)
    assert fit["draft_cost"] == pytest.approx(cost)


def test_the_papers_own_speeds_fit(paper: ModuleType) -> None:
    for speeds in paper.SPEEDS.values():
        for length, speedup in paper.fitted(speeds)["speedups"].items():
            assert speedup == pytest.approx(speeds[int(length)] / speeds[0], rel=0.03)


def test_a_claim_holds_where_its_interval_is_above_one() -> None:
    def row(ratio: float, low: float, high: float) -> dict[str, Any]:
        against = {"ratio": ratio, "interval": [low, high]}
        return {"rule": "goodput", "over_best_static": against, "over_max_confidence": against}

    others = [
        {"rule": rule}
        | {
            name: {"ratio": 1.0, "interval": [1, 1]}
            for name in ("over_static", "over_best_static", "over_max_confidence")
        }
        for rule in ("adaedl", "adaedl, tuned")
    ]
    rows = [row(1.2, 1.1, 1.3), row(1.2, 0.9, 1.5), row(0.8, 0.7, 0.9), row(0.8, 0.7, 0.9)]
    table = loaded("docs/measured.py").paper_claims({"rows": rows + others})
    assert "| goodput over the best static | 1 | 1 | 2 | 0.98 | 0.80 | 1.20 |" in table
