"""`stopkit trace replay`: every policy on one recording, at every cost, with the bounds."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stopkit.cli.app import Command
from stopkit.cli.options import json_option, order_options, policy_option
from stopkit.cli.outputs import save
from stopkit.cli.trace.options import cost_options, opened, require_one_kind

if TYPE_CHECKING:
    from stopkit.trace.ranking import Ranking


@click.command(cls=Command)
@click.argument("path", metavar="TRACE", type=click.Path(path_type=Path))
@policy_option
@cost_options
@order_options
@json_option
def replay(
    path: Path,
    policies: tuple[str, ...],
    max_new_tokens: int | None,
    sequences: int | None,
    sort: str,
    top: int | None,
    json_file: str | None,
    **costs: Any,
) -> None:
    """Replay policies on a recording.

    TRACE is a file, a folder of shards or an unfinished recording. Policies can be given several times; without, every
    installed one that the trace can serve is replayed, those made of others left out. static:length=2 is always there,
    and below the policies stand the bounds. Speed-up is tokens per target-step time. Interrupted, the table holds the
    policies that are done.
    """
    from rich.progress import TimeElapsedColumn, TimeRemainingColumn

    from stopkit.cli.progress import progress_bar
    from stopkit.rule_file import written_policies
    from stopkit.trace.comparison import contestants
    from stopkit.trace.ranking import replay as ranked

    require_one_kind(**costs)
    trace = opened(path, max_new_tokens, sequences)
    chosen = written_policies(*policies) if policies else None
    count = len(contestants(trace, chosen)[0])
    try:
        with progress_bar("bounds", count + 1, TimeElapsedColumn(), TimeRemainingColumn()) as update:
            ranking = ranked(
                trace,
                chosen,
                draft_cost=costs["draft_costs"],
                verify_cost=costs["verify_costs"],
                measured_costs=costs["measured"],
                tick=lambda name, part: update(advance=part, description=name),
            )
    except BaseException as stopped:
        if partial := getattr(stopped, "partial", None):
            _report(partial, json_file, costs["measured"], sort, top)
        raise
    _report(ranking, json_file, costs["measured"], sort, top)


def _report(ranking: "Ranking", json_file: str | None, measured: bool, sort: str, top: int | None) -> None:
    from stopkit.conditions import conditions
    from stopkit.kinds import as_block
    from stopkit.tables import REPLAY, console, in_order, standing_note, table, write_json
    from stopkit.trace.bounds import BOUNDS
    from stopkit.trace.comparison import CONTROLS
    from stopkit.trace.costs import misfit
    from stopkit.trace.ranking import COST_COLUMNS

    comparison, rows = ranking.comparison, ranking.rows
    trace = comparison.trace
    if json_file != "-":
        screen = console()
        shown = in_order(rows, COST_COLUMNS, sort, top, CONTROLS, BOUNDS)
        screen.print(table(shown, REPLAY, *COST_COLUMNS))
        screen.print(
            f"\nTokens: {trace.tokens:,} in {len(trace.sequences)} sequences, at temperature "
            f"{trace.metadata.sampling.temperature:g}. Speed-up: tokens per target-step time."
        )
        screen.print(standing_note(len(trace.sequences)))
        if measured:
            worst = misfit(trace.metadata, comparison.costs[0])
            screen.print(f"Costs as measured; their model misses the times to verify by {worst:.1%} at most.")
        for kind, reason in ranking.left_out.items():
            screen.print(f"Left out: {kind}: {reason}.")
    if json_file:
        asked = {
            "policy": {name: as_block(policy) for name, policy in comparison.policies.items()},
            "left_out": dict(ranking.left_out),
            "trace": {"path": trace.path, **trace.metadata.model_dump(mode="json")},
            "sequences": list(trace.sequences),
            "tokens": trace.tokens,
            "costs": [costs.model_dump() for costs in comparison.costs],
        }
        save((json_file, lambda place: write_json(place, conditions(**asked), rows)))
