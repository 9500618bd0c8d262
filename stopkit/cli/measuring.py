"""A comparison on the command line: live progress, then the table and the JSON, whatever happened in between."""

import time
from collections.abc import Sequence
from typing import NamedTuple

from rich.progress import MofNCompleteColumn, TimeElapsedColumn

from stopkit.cli.outputs import save
from stopkit.cli.progress import progress_bar
from stopkit.compare import CONTROLS, Comparison, Repeat, outside_forwards
from stopkit.conditions import conditions
from stopkit.config import Config
from stopkit.kinds import as_block
from stopkit.pair.corpus import held_out_prompts
from stopkit.prompts import WrittenPrompt
from stopkit.tables import COMPARISON, MEASURED, Row, console, in_order, standing_note, table, write_json

SECTIONS = ("temperature",)
"""What the parts of a table differ in."""


def held_out(count: int) -> list[WrittenPrompt]:
    """Prompts from modules that the bundled pair has not seen."""
    return [
        WrittenPrompt(text, f"held-out prompt {number}") for number, text in enumerate(held_out_prompts(count), start=1)
    ]


class Order(NamedTuple):
    """How a table is sorted, and how much of it is shown."""

    sort: str = "speedup"
    top: int | None = None


def measure(
    comparison: Comparison,
    config: Config,
    repeats: int,
    json_file: str | None,
    order: Order | None = None,
    most_seconds: float | None = None,
) -> Sequence[Row]:
    """Run and report: in an order and with how sure each speed-up is, or as the policies were given and without.

    Returns the rows.
    Repeats that would not be done within `most_seconds` are left out, the first excepted.
    """
    done: list[Repeat] = []
    began = time.monotonic()
    try:
        columns = MofNCompleteColumn(), TimeElapsedColumn()
        with progress_bar("warming up", comparison.runs * repeats, *columns) as update:
            for repeat in comparison.repeats(config.engine, repeats, lambda name: update(advance=1, description=name)):
                done.append(repeat)
                spent = time.monotonic() - began
                if most_seconds and spent * (len(done) + 1) / len(done) > most_seconds:
                    break
    finally:
        rows = _report(comparison, config, done, json_file, order)
    return rows


def _report(
    comparison: Comparison, config: Config, done: list[Repeat], json_file: str | None, order: Order | None
) -> Sequence[Row]:
    measured = comparison.rows(config.engine, done)
    if not measured:
        return measured
    rows: Sequence[Row] = in_order(measured, SECTIONS, order.sort) if order else measured
    if json_file != "-":
        screen = console()
        shown = in_order(rows, SECTIONS, order.sort, order.top, CONTROLS) if order else rows
        screen.print(table(shown, MEASURED if order else COMPARISON, *SECTIONS))
        screen.print(
            f"\n{outside_forwards(rows):.1%} of the time was spent outside the models' forwards. "
            f"Prompts: {len(comparison.prompts)}. Repeats: {len(done)}; medians ± half the range."
        )
        if order:
            screen.print(standing_note(-(-len(comparison.prompts) // comparison.batch_size)))
    if json_file:
        asked = {
            **config.as_dict(),
            "policy": {name: as_block(policy) for name, policy in comparison.policies.items()},
            "temperatures": list(comparison.temperatures),
            "prompts": len(comparison.prompts),
            "loaded": config.engine.loaded(),
        }
        save((json_file, lambda place: write_json(place, conditions(**asked), rows)))
    return rows
