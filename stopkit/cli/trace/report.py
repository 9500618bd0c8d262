"""`stopkit trace report`: everything about a trace, as one page that opens offline."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from stopkit.cli.app import Command
from stopkit.cli.options import writable

Tick = Callable[[str], None]
DRAFT_COSTS, VERIFY_COSTS = "0.02,0.05,0.1,0.2,0.4", "0.02"


@click.command(cls=Command)
@click.argument("trace", type=click.Path(path_type=Path))
@click.option("--out", required=True, callback=writable, metavar="FILE", help="The page to write, NAME.html.")
@click.option("--policy", "policies", multiple=True, metavar="POLICY", help="Default: all that are installed.")
@click.option("--draft-cost", default=DRAFT_COSTS, show_default=True, help="Of a draft step, in target steps.")
@click.option("--verify-cost", default=VERIFY_COSTS, show_default=True, help="Of a block token, in target steps.")
def report(trace: Path, out: str, policies: tuple[str, ...], draft_cost: str, verify_cost: str) -> None:
    """Make a page about TRACE.

    Speed-ups of all policies beside the bounds, lengths, acceptance, calibration of scores, sensitivity to thresholds,
    what is learned, and the conditions. The page is one file and fetches nothing. Policies can be given several times.
    """
    from stopkit.conditions import conditions
    from stopkit.config import load_policy
    from stopkit.costs import FixedCosts
    from stopkit.trace.report.page import page, steps
    from stopkit.trace.report.study import Study, usual_policies
    from stopkit.trace.trace import Trace

    drafts, verifies = _numbers(draft_cost, "--draft-cost"), _numbers(verify_cost, "--verify-cost")
    chosen = {spec: load_policy(spec) for spec in policies} or usual_policies()
    recorded = Trace.open(trace)
    costs = [FixedCosts(draft_step=one, verify=1.0, verify_token=other) for other in verifies for one in drafts]
    with _progress() as (begin, tick):
        begin(len(chosen) + 1)
        study = Study.of(recorded, chosen, costs, tick)
        begin(steps(study))
        made = page(study, conditions(trace=trace.name, draft_cost=drafts, verify_cost=verifies), tick)
    Path(out).write_text(made, encoding="utf-8")
    click.echo(f"{out}: {len(chosen)} policies on {recorded.tokens:,} tokens, {len(made.encode()) / 1e6:.2f} MB.")


def _numbers(text: str, option: str) -> list[float]:
    """Numbers with commas between them, in ascending order."""
    from stopkit.errors import InputError

    try:
        found = sorted({float(part) for part in text.split(",")})
    except ValueError:
        found = [-1.0]
    if not all(0 <= one < float("inf") for one in found):
        raise InputError(f"{option}: {text!r}: write numbers from 0, with commas between them.")
    return found


@contextmanager
def _progress() -> Iterator[tuple[Callable[[int], None], Tick]]:
    """A bar on a terminal: announce more steps, then tick them off."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from stopkit.report import console

    screen = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("replaying", total=0)

        def begin(steps: int) -> None:
            bar.update(task, total=(bar.tasks[task].total or 0) + steps)

        yield begin, lambda name: bar.update(task, advance=1, description=name)
