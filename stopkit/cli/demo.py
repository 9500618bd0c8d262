"""`stopkit demo`: the bundled pair at work, in about a minute."""

import click

from stopkit.cli.app import Command
from stopkit.cli.options import json_option, load

TEMPERATURES = (0.0, 0.7)
SHOWN = "adaedl"
MOST_SECONDS = 75.0
"""After this no further repeat is begun, so that slow machines are done in two minutes, too."""


@click.command(cls=Command)
@click.option("--prompts-count", type=click.IntRange(min=1), default=4, hidden=True)
@click.option("--max-new-tokens", type=int, default=64, hidden=True)
@click.option("--repeats", type=click.IntRange(min=1), default=3, hidden=True)
@json_option
def demo(prompts_count: int, max_new_tokens: int, repeats: int, json_file: str | None) -> None:
    """Watch three policies on the bundled model pair.

    Held-out Python code is completed at temperatures 0 and 0.7. Autoregressive decoding, static, adaedl and
    max_probability are measured side by side; then one completion shows which tokens the draft proposed.
    """
    chosen = load(None, {"max_new_tokens": max_new_tokens})

    from stopkit.cli.measuring import held_out, measure
    from stopkit.cli.screen import Screen
    from stopkit.compare import DEFAULT_POLICIES, Comparison, with_baseline
    from stopkit.completions import complete
    from stopkit.prompts import batches
    from stopkit.spec import load_policy

    prompts = held_out(prompts_count)
    policies = with_baseline({kind: load_policy(kind) for kind in DEFAULT_POLICIES})
    comparison = Comparison(policies, TEMPERATURES, prompts, chosen.generation)
    measure(comparison, chosen, repeats, json_file, most_seconds=MOST_SECONDS)
    if json_file == "-":
        return

    options = chosen.generation.model_copy(update={"temperature": TEMPERATURES[0]})
    screen = Screen(prompts[:1], chosen.engine.token_texts)
    screen.open(f"{SHOWN}, temperature {options.temperature:g}", str(prompts[0].prompt))
    (batch,) = batches(prompts[:1], 1, options.seed)
    screen.close(complete(chosen.engine, policies[SHOWN], batch, options, screen.write))
