"""`stopkit generate`: continue prompts, show the text as it is accepted, then the statistics."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stopkit.cli.app import Command, echo
from stopkit.cli.options import (
    POLICY_HELP,
    PROMPTS_HELP,
    json_option,
    kinds,
    load,
    model_options,
    prompts_from,
    sampling_options,
)
from stopkit.cli.outputs import output_option, save

if TYPE_CHECKING:
    from stopkit.generation import GenerationResult, InForce

FILE = click.Path(path_type=Path)
REPEATABLE = {"draft_step": 0.1, "verify": 1.0}
"""Costs that do not depend on the clock: a draft step is a tenth of a target step."""


EXAMPLES = """\b
Examples:
  stopkit generate "def quicksort(" --policy adaedl:threshold=0.7 -t 0.7
  stopkit generate --chat "Why is the sky blue?" --target LARGE --draft SMALL
"""


@click.command(cls=Command, epilog=EXAMPLES)
@click.argument("prompt", required=False)
@click.option("--prompt-file", type=FILE, help=PROMPTS_HELP)
@click.option(
    "--chat", is_flag=True, help="Take text for what a user says, and let the model's template ask for an answer."
)
@click.option(
    "-p",
    "--policy",
    metavar="POLICY",
    shell_complete=kinds("policies"),
    help=f"{POLICY_HELP}  [default: goodput]",
)
@click.option("-t", "--temperature", type=float, metavar="T", help="0 is greedy decoding.  [default: 1.0]")
@sampling_options
@model_options
@click.option(
    "--costs",
    type=click.Choice(["measured", "fixed"]),
    help="What policies are told of the costs; fixed, so that a seed repeats its text, if --seed is given.  "
    "[default: measured, without --seed]",
)
@click.option("--show-origin", is_flag=True, help="Show which tokens the draft proposed and which the target added.")
@click.option("--load-state", type=FILE, help="Begin with what the policy had learned, from a file.")
@output_option("--save-state", holds="state", type=FILE, help="Keep what the policy has learned in a file.")
@json_option
def generate(
    prompt: str | None,
    prompt_file: Path | None,
    chat: bool,
    policy: str | None,
    config: Path | None,
    batch_size: int,
    costs: str | None,
    show_origin: bool,
    load_state: Path | None,
    save_state: Path | None,
    json_file: str | None,
    **options: Any,
) -> None:
    """Continue prompts by speculative decoding.

    The text goes to standard output as it is accepted, statistics to standard error. --batch-size prompts decode side
    by side, and whenever one is done the next takes its place. A config file's sections are
    [policy], [engine] and [generation]. A state that is loaded goes on prompt by prompt if there are as many, else with
    what the policy carries over.
    """
    prompts = prompts_from(prompt, prompt_file)
    if chat:
        prompts = [written.said_by_user() for written in prompts]
    chosen = load(config, options, policy=policy)

    from stopkit import state_file
    from stopkit.cli.screen import Screen
    from stopkit.completions import complete, every_turn, rows
    from stopkit.conditions import conditions
    from stopkit.config import load_engine
    from stopkit.kinds import as_block
    from stopkit.prompts import batches
    from stopkit.tables import summary, write_json

    prompts = every_turn(chosen.engine, chosen.policy, prompts, chosen.generation, batch_size)
    seeded = options["seed"] is not None and chosen.generation.coupling == "maximal"
    fixed = chosen.engine.costs is None and (costs == "fixed" or (costs is None and seeded))
    if fixed:
        repeatable = load_engine(as_block(chosen.engine) | {"costs": REPEATABLE})
        chosen = chosen.model_copy(update={"engine": repeatable})
    state = state_file.load_state(load_state, chosen.policy) if load_state else None
    (batch,) = batches(prompts, len(prompts), chosen.generation.seed)
    screen = Screen(prompts, chosen.engine.token_texts if show_origin else None, silent=json_file == "-")

    def finish(result: "GenerationResult") -> None:
        """Show, save and write what there is."""
        screen.close(result)
        echo(summary(result.stats), err=True)
        for line in (*_in_force(result.in_force, fixed), *_cut_off(result)):
            echo(line, err=True)
        name = policy or (str(config) if config else chosen.policy.kind)
        completed = rows(name, chosen.engine, chosen.generation, batch_size, batch, result)
        save(
            (save_state, lambda place: state_file.save_state(place, chosen.policy, result.state)),
            (
                json_file,
                lambda place: write_json(
                    place, conditions(**chosen.as_dict(), loaded=chosen.engine.loaded()), completed
                ),
            ),
        )

    try:
        result = complete(chosen.engine, chosen.policy, batch, chosen.generation, screen.write, state, batch_size)
    except BaseException as stopped:
        if partial := getattr(stopped, "partial", None):
            finish(partial)
        raise
    finish(result)


def _cut_off(result: "GenerationResult") -> Iterator[str]:
    """What the target had no room to finish."""
    if cut := sum(each.finish_reason == "context" for each in result.continuations):
        yield f"ended because the target's context is full: {cut} of {len(result.continuations)} texts"


def _in_force(how: "InForce | None", fixed: bool) -> Iterator[str]:
    """What of the model's settings and of the costs the user did not ask for."""
    if fixed:
        yield "costs: fixed, a draft step at 0.1 of a target step, so that the text can be repeated (--costs)"
    if how and how.processors:
        yield f"applied, as the target's generation config asks: {', '.join(how.processors)} (engine.penalties)"
    if how and how.undone:
        yield f"not done, though the target's generation config asks for it: {', '.join(how.undone)}"
