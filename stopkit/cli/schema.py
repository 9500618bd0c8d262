"""`stopkit schema`: the JSON Schema of a config file."""

import json

import click

from stopkit.cli.app import Command


@click.command(cls=Command)
def schema() -> None:
    """Print the JSON Schema of a config file.

    Editors check and complete config files with it; it holds the kinds that are installed here.
    """
    from stopkit.plugins import registry
    from stopkit.schema import config_schema

    click.echo(json.dumps(config_schema(registry()), indent=2, ensure_ascii=False))
