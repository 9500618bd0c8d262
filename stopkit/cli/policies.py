"""`stopkit policies`: what is installed, and everything about one of them."""

from dataclasses import asdict
from typing import Any

import click

from stopkit.cli.app import Command, Group
from stopkit.cli.options import json_option


@click.group(cls=Group, invoke_without_command=True)
@json_option
@click.pass_context
def policies(context: click.Context, json_file: str | None) -> None:
    """List the installed policies; show one."""
    if context.invoked_subcommand:
        return
    from stopkit.plugins import registry
    from stopkit.tables import show_table, text

    columns = (text("kind", "kind"), text("rule", "formula"), text("from", "distribution"))
    show_table([_about(cls) for cls in registry().policies.values()], columns, json_file)


@policies.command(cls=Command)
@click.argument("kind")
@json_option
def show(kind: str, json_file: str | None) -> None:
    """Fields, formula and source of the policy KIND."""
    from stopkit.plugins import registry
    from stopkit.schema import fields, source_file
    from stopkit.spec import ALIASES
    from stopkit.tables import console, show_table, text

    cls = registry().policy(str(ALIASES.get(kind, {"kind": kind})["kind"]))
    about = {**_about(cls), "signals": sorted(cls.signals), "context": sorted(cls.context), "file": source_file(cls)}
    rows = [asdict(field) for field in fields(cls)]
    if json_file != "-":
        for title in ("formula", "source", "distribution", "file"):
            console().print(f"{title + ':':<14}{about[title] or '–'}", soft_wrap=True)
        console().print()
    columns = [text(name, name) for name in ("name", "type", "default", "bounds", "description")]
    show_table(rows, columns, json_file, [{**about, "fields": rows}])


def _about(cls: Any) -> dict[str, Any]:
    from stopkit.kinds import distribution_of

    return {"kind": cls.kind, "formula": cls.formula, "source": cls.source, "distribution": distribution_of(cls)}
