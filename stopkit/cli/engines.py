"""`stopkit engines`: what can run models."""

import click

from stopkit.cli.app import Command
from stopkit.cli.options import json_option


@click.command(cls=Command)
@json_option
def engines(json_file: str | None) -> None:
    """List the installed engines."""
    import inspect

    from stopkit.kinds import distribution_of
    from stopkit.plugins import registry
    from stopkit.schema import source_file
    from stopkit.tables import show_table, text

    rows = [
        {
            "kind": cls.kind,
            "description": (inspect.getdoc(cls) or "").partition("\n")[0],
            "distribution": distribution_of(cls),
            "file": source_file(cls),
        }
        for cls in registry().engines.values()
    ]
    columns = (text("kind", "kind"), text("description", "description"), text("from", "distribution"))
    show_table(rows, columns, json_file)
