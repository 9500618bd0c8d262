"""`stopkit trace`: record once, then replay every policy."""

import click

from stopkit.cli.app import Group
from stopkit.cli.trace.record import record
from stopkit.cli.trace.replay import replay
from stopkit.cli.trace.report import report


@click.group("trace", cls=Group, short_help="Record what two models say; replay policies on it.")
def trace() -> None:
    """Record what two models say once, and replay policies on the recording."""


for command in (record, replay, report):
    trace.add_command(command)
