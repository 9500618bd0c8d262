"""The command line. Importing it loads no torch; a command imports what it needs when it runs."""

import os

import click

from stopkit import __version__
from stopkit.cli.app import App, offered_commands
from stopkit.cli.check import check
from stopkit.cli.compare import compare
from stopkit.cli.demo import demo
from stopkit.cli.engines import engines
from stopkit.cli.generate import generate
from stopkit.cli.new_policy import new_policy
from stopkit.cli.plugins import plugins
from stopkit.cli.policies import policies
from stopkit.cli.schema import schema
from stopkit.cli.trace import trace
from stopkit.cli.train_pair import train_pair
from stopkit.cli.tune import tune

__all__ = ["main"]


@click.group("stopkit", cls=App, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="stopkit")
@click.pass_context
def main(context: click.Context) -> None:
    """Decide when a draft model should stop drafting, without changing what the target model says."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # read when torch and transformers are imported, which is later
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for command in (
    demo,
    generate,
    compare,
    trace,
    tune,
    policies,
    engines,
    plugins,
    schema,
    check,
    new_policy,
    train_pair,
    *offered_commands(),
):
    main.add_command(command)
