"""`stopkit plugins`: which entry points were found, and which are disabled."""

from dataclasses import asdict

import click

from stopkit.cli.app import Command
from stopkit.cli.options import json_option


@click.command(cls=Command)
@json_option
def plugins(json_file: str | None) -> None:
    """List the plug-ins, and why any is disabled."""
    from stopkit.plugins import registry
    from stopkit.tables import show_table, text

    rows = [{**asdict(plugin), "state": "disabled" if plugin.problem else "loaded"} for plugin in registry().plugins]
    columns = [text(title, title) for title in ("name", "distribution", "reference", "state", "problem")]
    show_table(rows, columns, json_file)
