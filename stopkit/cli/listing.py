"""A list on the command line: a table, and its JSON if asked for."""

from collections.abc import Sequence
from typing import Any

from stopkit.conditions import conditions
from stopkit.tables import Column, console, table, write_json


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
        write_json(json_file, conditions(), json_rows if json_rows is not None else rows)
