"""`stopkit trace report`: everything about a trace, as one page that opens offline."""

from pathlib import Path
from typing import Any

import click

from stopkit.cli.app import Command, echo
from stopkit.cli.options import policy_option
from stopkit.cli.outputs import force_option, output_option, save
from stopkit.cli.trace.options import cost_options, costs_of, opened


@click.command(cls=Command)
@click.argument("path", metavar="TRACE", type=click.Path(path_type=Path))
@output_option("--out", holds="page", required=True, metavar="FILE", help="The page to write, NAME.html.")
@force_option
@policy_option
@cost_options
def report(
    path: Path, out: str, policies: tuple[str, ...], max_new_tokens: int | None, sequences: int | None, **costs: Any
) -> None:
    """Make a page about a recording.

    Speed-ups of policies beside the bounds, lengths, acceptance, calibration of scores, sensitivity to thresholds, what
    is learned, and the conditions. The page is one file and fetches nothing. Policies can be given several times;
    without, every installed one that the trace can serve is in it, those made of others left out.
    """
    from rich.progress import TimeElapsedColumn, TimeRemainingColumn

    from stopkit.cli.progress import progress_bar
    from stopkit.conditions import conditions
    from stopkit.rule_file import written_policies
    from stopkit.trace.comparison import contestants
    from stopkit.trace.report.page import page, steps
    from stopkit.trace.report.study import Study

    trace = opened(path, max_new_tokens, sequences)
    chosen, left_out = contestants(trace, written_policies(*policies) if policies else None)
    with progress_bar("bounds", len(chosen) + 1, TimeElapsedColumn(), TimeRemainingColumn()) as update:

        def tick(name: str, part: float) -> None:
            update(advance=part, description=name)

        study = Study.of(trace, chosen, costs_of(trace, **costs), tick)
        update(total=len(chosen) + 1 + steps(study))
        asked = {"trace": path.name, "tokens": trace.tokens, "sequences": len(trace.sequences), "left_out": left_out}
        html = page(study, conditions(**asked), tick)
    save((out, lambda place: Path(place).write_text(html, encoding="utf-8")))
    echo(f"{out}: {len(chosen)} policies on {trace.tokens:,} tokens, {len(html.encode()) / 1e6:.2f} MB.")
    for kind, reason in left_out.items():
        echo(f"Left out: {kind}: {reason}.")
