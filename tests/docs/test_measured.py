"""What pages say was measured is what the results hold; without results they say so."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.docs.pages import PAGES, ROOT

RATIO = {"against": "adaedl", "verify_cost": 0.02, "worst": 1.1}
WORST = {"temperature": 0.7, "draft_cost": 0.1, "verify_cost": 0.02, "other": "adaedl"}
RATIOS = [
    RATIO | {"temperature": name, "geometric_mean": mean, "worst_cell": WORST}
    for name, mean in (("all", 1.25), ("0", 1.5))
]


@pytest.fixture
def measured() -> ModuleType:
    return loaded("docs/measured.py")


@pytest.fixture
def benchmark() -> ModuleType:
    return loaded("benchmarks/shelf.py")


def loaded(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(policy: str, speedup: float, draft_cost: float = 0.1) -> dict[str, Any]:
    return {"policy": policy, "speedup": speedup, "temperature": 0.0, "draft_cost": draft_cost, "verify_cost": 0.02}


def test_pages_ask_for_what_there_is(measured: ModuleType) -> None:
    asked = {found for page in PAGES for found in measured.MARK.findall(page.read_text(encoding="utf-8"))}
    assert {part for part, _ in asked} == measured.PARTS.keys()
    assert all((measured.RESULTS / f"{result}.json").exists() for _, result in asked)


def test_without_results_the_page_says_so(measured: ModuleType) -> None:
    assert measured.on_page_markdown("a <!-- measured: ratios none --> b") == f"a {measured.MISSING} b"


def test_ratios_are_a_table_and_the_worst_cells(measured: ModuleType) -> None:
    text = measured.ratios({"ratios": RATIOS})
    assert "| goodput / | all | T = 0 | worst cell |" in text
    assert "| adaedl | 1.250 | 1.500 | 1.100 |" in text
    assert "* adaedl: temperature 0.7, draft cost 0.1" in text.splitlines()


def test_the_shelf_has_the_best_first_and_leaves_out_what_was_tuned(measured: ModuleType) -> None:
    rows = [row("slow", 1.0), row("fast", 1.0), row("fast", 4.0, 0.2), row("tuned", 9.0) | {"tuned": "rule"}]
    lines = measured.shelf({"rows": rows}).splitlines()
    assert lines[2:] == ["| `fast` | 2.00 |", "| `slow` | 1.00 |"]


def test_of_a_swept_rule_the_best_of_each_cell_is_kept(benchmark: ModuleType) -> None:
    rows = [row("a:1", 1.0), row("a:2", 2.0), row("a:1", 3.0, 0.2), row("a:2", 2.5, 0.2), row("a", 1.5)]
    kept = benchmark.best_of_swept(rows, {"a:1": "a", "a:2": "a"})
    assert [(one["policy"], one["speedup"], one.get("tuned")) for one in kept] == [
        ("a:2", 2.0, "a"),
        ("a:1", 3.0, "a"),
        ("a", 1.5, None),
    ]


def test_the_best_other_is_neither_goodput_nor_above_all_policies(benchmark: ModuleType) -> None:
    names = {"goodput": 1.2, "hindsight": 3.0, "clairvoyant": 2.0, "best_static": 1.5, "adaedl": 1.0}
    rows = [row(name, speedup) for name, speedup in names.items()]
    found = {ratio["against"]: ratio for one in benchmark.AGAINST for ratio in benchmark.compared(rows, 0.02, one)}
    means = {against: ratio["geometric_mean"] for against, ratio in found.items()}
    assert means == {"adaedl": 1.2, "best other, tuned in every cell": 0.8, "clairvoyant": 0.6}
    assert found["best other, tuned in every cell"]["worst_cell"]["other"] == "best_static"
