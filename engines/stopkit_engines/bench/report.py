"""A benchmark's rows as a table."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stopkit.tables import Column, Row, spread, text

SECTIONS = ("temperature", "batch_size")


def optional(title: str, key: str, form: str) -> Column:
    """A number that a row may lack."""
    return Column(title, key, lambda row: "–" if row.get(key) is None else form.format(row[key]))


def _against(row: Row) -> str:
    return "–" if row.get("against_assisted") is None else f"{row['against_assisted']:.2f}"


def _speedup(row: Row) -> str:
    return spread("", "speedup", "{:.2f}").show(row) if "speedup" in row else "–"


COLUMNS: Sequence[Column] = (
    text("dtype", "dtype"),
    text("engine", "engine"),
    text("policy", "policy"),
    spread("tokens/s", "tokens_per_second", "{:.0f}"),
    Column("speed-up", "speedup", _speedup),
    Column("assisted", "against_assisted", _against),
    optional("tokens a\nround", "acceptance_length", "{:.2f}"),
    optional("outside\nforwards", "outside_forwards", "{:.1%}"),
    Column("first\ntoken ms", "time_to_first_token", lambda row: f"{row['time_to_first_token'] * 1e3:.0f}"),
    optional("equal", "equal_rows", "{:.0%}"),
)


def failures(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for every contestant that failed."""
    for row in rows:
        if "error" in row:
            yield f"{row['dtype']}, {row['engine']} {row['policy']}, temperature {row['temperature']:g}: {row['error']}"
