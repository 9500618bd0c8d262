"""`stopkit trace replay`: every policy on one recording, at every cost, with the bounds."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stopkit.cli.app import Command
from stopkit.cli.options import json_option
from stopkit.cli.outputs import save
from stopkit.cli.trace.options import cost_options, costs_of, opened

if TYPE_CHECKING:
    from stopkit.trace.comparison import TraceComparison
    from stopkit.trace.replay import Replay


@click.command(cls=Command)
@click.argument("path", metavar="TRACE", type=click.Path(path_type=Path))
@click.option("--policy", "policies", multiple=True, metavar="POLICY", help="KIND, KIND:field=value or a config file.")
@cost_options
@json_option
def replay(
    path: Path,
    policies: tuple[str, ...],
    max_new_tokens: int | None,
    sequences: int | None,
    json_file: str | None,
    **costs: Any,
) -> None:
    """Replay policies on a recording.

    TRACE is a file, a folder of shards or an unfinished recording. Policies can be given several times; without, every
    installed one that the trace can serve is replayed. Speed-up is tokens per target-step time. Below the policies
    stand the bounds. Interrupted, the table holds the policies that are done.
    """
    from rich.progress import TimeElapsedColumn, TimeRemainingColumn

    from stopkit.cli.progress import progress_bar
    from stopkit.trace.comparison import TraceComparison, named, servable

    trace = opened(path, max_new_tokens, sequences)
    chosen, left_out = (named(trace, policies), {}) if policies else servable(trace)
    comparison = TraceComparison(trace, chosen, costs_of(trace, **costs))
    done: dict[str, list[Replay]] = {}
    try:
        with progress_bar("bounds", len(chosen) + 1, TimeElapsedColumn(), TimeRemainingColumn()) as update:
            # one after another: what is done when it stops is there
            done.update(comparison.replays(lambda name, part: update(advance=part, description=name)))
    finally:
        if "clairvoyant" in done:
            _report(comparison, done, left_out, json_file, costs["measured"])


def _report(
    comparison: "TraceComparison",
    done: "dict[str, list[Replay]]",
    left_out: dict[str, str],
    json_file: str | None,
    measured: bool,
) -> None:
    from stopkit.conditions import conditions
    from stopkit.kinds import as_block
    from stopkit.tables import REPLAY, console, table, write_json
    from stopkit.trace.costs import misfit

    trace, rows = comparison.trace, comparison.rows(done)
    if json_file != "-":
        screen = console()
        screen.print(table(rows, REPLAY, "draft_cost", "verify_cost"))
        screen.print(
            f"\nTokens: {trace.tokens:,} in {len(trace.sequences)} sequences, at temperature "
            f"{trace.metadata.sampling.temperature:g}. Speed-up: tokens per target-step time."
        )
        if measured:
            worst = misfit(trace.metadata, comparison.costs[0])
            screen.print(f"Costs as measured; their model misses the times to verify by {worst:.1%} at most.")
        for kind, reason in left_out.items():
            screen.print(f"Left out: {kind}: {reason}.")
    if json_file:
        asked = {
            "policy": {name: as_block(policy) for name, policy in comparison.policies.items()},
            "left_out": left_out,
            "trace": {"path": trace.path, **trace.metadata.model_dump(mode="json")},
            "sequences": list(trace.sequences),
            "tokens": trace.tokens,
            "costs": [costs.model_dump() for costs in comparison.costs],
        }
        save((json_file, lambda place: write_json(place, conditions(**asked), rows)))
