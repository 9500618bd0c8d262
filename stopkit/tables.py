"""Results for people and for programs: tables by rich, JSON objects with `conditions` and `rows`."""

import json
import sys
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stopkit.conditions import conditions as current_conditions
from stopkit.errors import printable
from stopkit.statistics import Statistics

Row = Mapping[str, Any]
WIDTH = 120
"""Columns of output that goes to no terminal."""


class Column(NamedTuple):
    """A table's column: its title, the row's key, and how the row's value is written."""

    title: str
    key: str
    show: Callable[[Row], str]
    right: bool = True


def text(title: str, key: str, right: bool = False) -> Column:
    """A column of plain values; None is left blank."""
    return Column(title, key, lambda row: "" if row.get(key) is None else str(row[key]), right)


def number(title: str, key: str, form: str) -> Column:
    """A column of numbers in a format of `str.format`."""
    return Column(title, key, lambda row: form.format(row[key]))


def spread(title: str, key: str, form: str) -> Column:
    """A median, and half the distance from the smallest to the largest value where there was more than one."""

    def show(row: Row) -> str:
        low, high = row[f"{key}_range"]
        return form.format(row[key]) + (f" ±{form.format((high - low) / 2)}" if row["repeats"] > 1 else "")

    return Column(title, key, show)


COUNTS = (
    number("block\nefficiency", "block_efficiency", "{:.2f}"),
    Column(
        "acceptance\nrate", "acceptance_rate", lambda row: f"{row['acceptance_rate']:.1%}" if row["drafted"] else "–"
    ),
    number("drafted", "drafted", "{:,}"),
    number("target\nforwards", "target_forwards", "{:,}"),
)


def _share(row: Row) -> str:
    share = row.get("of_best")
    return "" if share is None else f"{share:.1%}{' ≈' if row['like_best'] and share != 1 else '  '}"


def _interval(row: Row) -> str:
    return "–" if row.get("speedup_interval") is None else "{:.2f}–{:.2f}".format(*row["speedup_interval"])


STANDING = (Column("95%", "speedup_interval", _interval), Column("of the\nbest", "of_best", _share))
"""How sure a row's speed-up is, and whether it can be told from the best row's."""
COMPARISON = (
    text("policy", "policy"),
    spread("tokens/s", "tokens_per_second", "{:.1f}"),
    spread("speed-up", "speedup", "{:.2f}"),
    *COUNTS,
)
MEASURED = (*COMPARISON[:3], *STANDING, *COMPARISON[3:])
"""A comparison, with how sure it is."""
REPLAY = (
    text("policy", "policy"),
    number("speed-up", "speedup", "{:.2f}"),
    *STANDING,
    Column("share of\nclairvoyant", "of_clairvoyant", lambda row: f"{row['of_clairvoyant']:.1%}"),
    *COUNTS[:-1],  # a round is a target forward
)


def table(rows: Sequence[Row], columns: Sequence[Column], *sections: str) -> Table:
    """`rows` as a table; wherever the values of the keys `sections` change, a line says the new ones."""
    grid = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for column in columns:
        if column.right:
            grid.add_column(column.title, justify="right", no_wrap=True)
        else:
            grid.add_column(column.title, overflow="fold")
    before = ""
    for row in rows:
        section = ", ".join(f"{key.replace('_', ' ')} {row[key]:.4g}" for key in sections)
        if section != before:
            grid.add_row(Text(section, style="bold"))
        grid.add_row(*(Text(printable(column.show(row))) for column in columns))
        before = section
    return grid


def standing_note(sequences: int) -> str:
    """What the columns of STANDING mean."""
    if sequences < 2:
        return "One sequence: how sure the figures are cannot be told."
    return f"95% intervals by bootstrap over {sequences} sequences. ≈: cannot be told from the best, pair by pair."


def in_order(
    rows: Sequence[Row],
    sections: Sequence[str],
    key: str = "speedup",
    top: int | None = None,
    always: Container[str] = (),
    last: Container[str] = (),
) -> list[Row]:
    """`rows`, in every section the one with the most of `key` first, and only `top` of them.

    The policies `always` stay in any case, and so do those of `last`, which keep their order, at the end.
    """
    found: list[Row] = []
    for section in dict.fromkeys(tuple(row[name] for name in sections) for row in rows):
        here = [row for row in rows if tuple(row[name] for name in sections) == section]
        ranked = sorted((row for row in here if row["policy"] not in last), key=lambda row: -row[key])
        kept = {row["policy"] for row in [row for row in ranked if row["policy"] not in always][:top]}
        found += [row for row in ranked if row["policy"] in always or row["policy"] in kept]
        found += [row for row in here if row["policy"] in last]
    return found


def summary(stats: Statistics) -> str:
    """One generation's statistics in a line."""
    return (
        f"{stats.tokens} tokens, {stats.tokens_per_second:.1f} a second · block efficiency "
        f"{stats.block_efficiency:.2f} · acceptance rate {stats.acceptance_rate:.1%} ({stats.accepted} of "
        f"{stats.drafted} drafted) · {stats.target_forwards} target and {stats.draft_forwards} draft forwards"
    )


class Terminal(Console):
    """A console on which text of models and files cannot move the cursor, or worse; in a pipe it stays as it is."""

    def out(self, *objects: Any, **options: Any) -> None:
        super().out(*map(self._safe, objects), **options)

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*map(self._safe, objects), **options)

    def _safe(self, shown: Any) -> Any:
        return printable(shown) if isinstance(shown, str) and self.is_terminal else shown


def console(stderr: bool = False) -> Console:
    """A console that folds nothing to eighty columns when it writes to a file. Obeys NO_COLOR."""
    screen = Terminal(stderr=stderr, highlight=False, markup=False)
    return screen if screen.is_terminal else Terminal(stderr=stderr, highlight=False, markup=False, width=WIDTH)


def write_json(path: str, conditions: Row, rows: Sequence[Row]) -> None:
    """One object with `conditions` and `rows`, to a file or, for `-`, to standard output."""
    document = json.dumps({"conditions": conditions, "rows": rows}, indent=2, ensure_ascii=False, allow_nan=False)
    if path == "-":
        sys.stdout.write((printable(document) if sys.stdout.isatty() else document) + "\n")
    else:
        Path(path).write_text(document + "\n", encoding="utf-8")


def show_table(
    rows: Sequence[dict[str, Any]],
    columns: Sequence[Column],
    json_file: str | None,
    json_rows: Sequence[dict[str, Any]] | None = None,
) -> None:
    """Print `rows`, and write `json_rows` (or `rows`) to the JSON file; only that if it is standard output."""
    if json_file != "-":
        console().print(table(rows, columns))
    if json_file:
        write_json(json_file, current_conditions(), json_rows if json_rows is not None else rows)
