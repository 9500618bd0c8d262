"""`stopkit compare`: policies side by side on the same prompts, seeds and models."""

from pathlib import Path
from typing import Any

import click

from stopkit.cli.app import Command
from stopkit.cli.options import (
    PROMPTS_HELP,
    json_option,
    load,
    model_options,
    order_options,
    policy_option,
    sampling_options,
)

DEFAULT_PROMPTS = 4


@click.command(cls=Command)
@policy_option
@click.option("-t", "--temperature", "temperatures", type=float, multiple=True, default=(0.0, 0.7), show_default=True)
@click.option(
    "--prompts", "prompt_file", type=click.Path(path_type=Path), help=f"{PROMPTS_HELP}  [default: held-out Python code]"
)
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True, help="Passes over the prompts.")
@sampling_options
@model_options
@order_options
@json_option
def compare(
    policies: tuple[str, ...],
    temperatures: tuple[float, ...],
    prompt_file: Path | None,
    repeats: int,
    config: Path | None,
    batch_size: int,
    sort: str,
    top: int | None,
    json_file: str | None,
    **options: Any,
) -> None:
    """Measure policies side by side.

    Autoregressive decoding and static:length=2 are always among them. Policies and temperatures can be given several
    times. Runs are interleaved; the table holds medians over the repeats. Interrupted, it holds the repeats that are
    complete.
    """
    chosen = load(config, options)

    from stopkit.cli.measuring import Order, held_out, measure
    from stopkit.compare import DEFAULT_POLICIES, Comparison, with_controls
    from stopkit.completions import every_turn
    from stopkit.prompts import read_prompts
    from stopkit.rule_file import written_policies

    written = read_prompts(prompt_file) if prompt_file else held_out(DEFAULT_PROMPTS)
    comparison = Comparison(
        policies=with_controls(written_policies(*(policies or _policy_of(config) or DEFAULT_POLICIES))),
        temperatures=tuple(dict.fromkeys(temperatures)),
        prompts=every_turn(chosen.engine, chosen.policy, written, chosen.generation, batch_size),
        options=chosen.generation,
        batch_size=batch_size,
    )
    measure(comparison, chosen, repeats, json_file, Order(sort, top))


def _policy_of(config: Path | None) -> tuple[str, ...]:
    """The config file as a policy, if it has one."""
    from stopkit.spec import read_tree

    return (str(config),) if config and "policy" in read_tree(config) else ()
