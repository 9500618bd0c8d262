"""`stopkit.replay`: policies in many forms, best first, as text, rows and a data frame."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

import stopkit
from stopkit import InputError
from stopkit.costs import FixedCosts
from stopkit.trace import replay as replaying
from stopkit.trace.trace import Trace
from tests.trace.traces import by_chance, write

BOUNDS = ["hindsight", "clairvoyant", "best_static", "autoregressive"]
CONTROL = "static:length=2"
LENGTHS = [9, 14, 6]


class Sure(stopkit.ThresholdPolicy):
    """Draft while the draft model is sure."""

    kind: ClassVar[str] = "sure"
    signals: ClassVar[frozenset[str]] = frozenset({"max_probability"})

    def score(self, signals: stopkit.Signals) -> Any:
        return signals.max_probability


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "t.parquet", by_chance(5, LENGTHS))


def test_objects_kinds_and_dicts_best_first(path: Path) -> None:
    ranking = stopkit.replay(path, [Sure(threshold=0.25), "static:length=2", {"kind": "adaedl", "gamma": 0.1}, Sure()])
    names = ["sure", "sure:threshold=0.25", "static:length=2", "adaedl:gamma=0.1"]
    cells = [(row["draft_cost"], row["verify_cost"]) for row in ranking.rows[:: len(names) + len(BOUNDS)]]
    assert cells == [(cost, 0.02) for cost in (0.02, 0.05, 0.1, 0.2, 0.4)]
    for cell in cells:
        rows = [row for row in ranking.rows if (row["draft_cost"], row["verify_cost"]) == cell]
        speedups = [row["speedup"] for row in rows[: len(names)]]
        assert speedups == sorted(speedups, reverse=True)
        assert {row["policy"] for row in rows[: len(names)]} == set(names)
        assert [row["policy"] for row in rows[len(names) :]] == BOUNDS


def test_a_row_is_what_a_replay_gives(path: Path) -> None:
    ranking = stopkit.replay(Trace.open(path), Sure(), draft_cost=[0.1, 0.3], verify_cost=0.05)
    costs = [FixedCosts(draft_step=cost, verify=1, verify_token=0.05) for cost in (0.1, 0.3)]
    for found in replaying.replay(Trace.open(path), Sure(), costs):
        (row,) = (
            row for row in ranking.rows if row["policy"] == "sure" and row["draft_cost"] == found.costs.draft_step
        )
        assert (row["speedup"], row["rounds"], row["accepted"]) == (
            found.speedup,
            found.stats.rounds,
            found.stats.accepted,
        )


def test_policies_by_name(path: Path) -> None:
    rows = stopkit.replay(path, {"mine": Sure(), "theirs": "static"}, draft_cost=0.1).rows
    assert {row["policy"] for row in rows} == {"mine", "theirs", CONTROL, *BOUNDS}


def test_all_that_the_trace_can_serve(path: Path) -> None:
    ranking = stopkit.replay(path, draft_cost=0.1, sequences=1, max_new_tokens=4)
    assert {"static", "adaedl", "goodput"} <= {row["policy"] for row in ranking.rows}
    assert all(row["tokens"] == 4 for row in ranking.rows)
    assert "acceptance_head" in ranking.left_out


def test_the_table_holds_every_row(path: Path) -> None:
    ranking = stopkit.replay(path, ["static", Sure()], draft_cost=[0.1, 0.2])
    text = ranking.table()
    assert str(ranking) == text
    assert text.count("static ") == 2 + text.count("best_static ")
    assert text.count(CONTROL) == 2
    for word in ("sure", "draft cost 0.2, verify cost 0.02", "clairvoyant", "speed-up"):
        assert word in text
    assert "\x1b" not in text


def test_a_data_frame(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranking = stopkit.replay(path, "static", draft_cost=0.1)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match=r"to_pandas: pandas is not installed; `pip install pandas`, or use \.rows\."):
        ranking.to_pandas()
    pandas = ModuleType("pandas")
    pandas.DataFrame = lambda rows: ("frame of", rows)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    assert ranking.to_pandas() == ("frame of", ranking.rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"policies": ["statik"]}, r"policies\[0\]\.kind: unknown kind 'statik'\. Did you mean 'static'\?"),
        ({"policies": {"a": "static:long=1"}}, r"policies\['a'\]\.long: unknown field"),
        ({"policies": ["./rule.py"]}, r"policies\[0\]: '\./rule\.py' is a Python file"),
        ({"draft_cost": [0.1, -1]}, r"draft_cost: -1 is not a finite number of at least 0\."),
        ({"verify_cost": float("nan")}, r"verify_cost: nan is not a finite number"),
        ({"draft_cost": []}, r"draft_cost: is empty"),
        ({"draft_cost": 0.1, "measured_costs": True}, "measured_costs: .*give one or the others"),
        ({"sequences": 4}, r"sequences: is 4, and .* holds 3\."),
        ({"max_new_tokens": 0}, "max_new_tokens: is 0"),
    ],
)
def test_what_is_wrong_is_named(path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        stopkit.replay(path, **arguments)


def test_two_policies_of_one_name(path: Path) -> None:
    class Other(Sure):
        """Of the same kind."""

    with pytest.raises(InputError, match=r"policies\[1\]: another policy is called 'sure', too; give a dict of names"):
        stopkit.replay(path, [Sure(), Other()])


def test_what_was_done_is_kept(path: Path) -> None:
    class Breaks(Sure):
        """Never decides."""

        kind: ClassVar[str] = "breaks"

        def score(self, signals: stopkit.Signals) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        stopkit.replay(path, [Sure(), Breaks()], draft_cost=0.1)
    partial = caught.value.partial  # type: ignore[attr-defined]
    assert [row["policy"] for row in partial.rows] == ["sure", *BOUNDS], "the control comes last"
