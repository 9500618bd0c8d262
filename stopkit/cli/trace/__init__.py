"""`stopkit trace`: what can be done with recordings."""

import click

from stopkit.cli.app import Group
from stopkit.cli.trace.report import report


@click.group("trace", cls=Group)
def trace() -> None:
    """Record what models do once, and replay every policy on it."""


trace.add_command(report)
