"""`stopkit demo`: the bundled pair at work, in about a minute."""

import click

from stopkit.cli.app import Command, echo
from stopkit.cli.options import json_option, load

ENGINES = ("compiled", "eager")
"""Those that are tried, the fastest first."""
TEMPERATURES = (0.0, 0.7)
SHOWN = "goodput"
MOST_SECONDS = 75.0
"""After this no further repeat is begun, so that slow machines are done in two minutes, too."""


@click.command(cls=Command)
@click.option("--engine", metavar="KIND", help="Engine to run on.  [default: the fastest that is ready at once]")
@click.option("--prompts-count", type=click.IntRange(min=1), default=4, hidden=True)
@click.option("--max-new-tokens", type=int, default=64, hidden=True)
@click.option("--repeats", type=click.IntRange(min=1), default=3, hidden=True)
@json_option
def demo(engine: str | None, prompts_count: int, max_new_tokens: int, repeats: int, json_file: str | None) -> None:
    """Watch four policies on the bundled model pair.

    Held-out Python code is completed at temperatures 0 and 0.7. Autoregressive decoding, static, adaedl,
    max_probability and goodput are measured side by side; then one completion shows which tokens the draft proposed.
    """
    kinds = (engine,) if engine else ENGINES
    configs = (load(None, {"engine": kind, "max_new_tokens": max_new_tokens}) for kind in kinds)
    chosen = next(config for config in configs if engine or config.engine.ready())
    if not engine and chosen.engine.kind != ENGINES[0]:
        echo(
            f"On the {chosen.engine.kind} engine. {ENGINES[0]} is faster: --engine {ENGINES[0]} compiles it first.",
            err=True,
        )

    from stopkit.cli.measuring import held_out, measure
    from stopkit.cli.screen import Screen
    from stopkit.compare import DEFAULT_POLICIES, Comparison, with_baseline
    from stopkit.completions import complete
    from stopkit.prompts import batches
    from stopkit.spec import load_policy

    prompts = held_out(prompts_count)
    policies = with_baseline({kind: load_policy(kind) for kind in DEFAULT_POLICIES})
    comparison = Comparison(policies, TEMPERATURES, prompts, chosen.generation)
    rows = measure(comparison, chosen, repeats, json_file, most_seconds=MOST_SECONDS)
    if json_file == "-":
        return

    options = chosen.generation.model_copy(update={"temperature": TEMPERATURES[0]})
    screen = Screen(prompts[:1], chosen.engine.token_texts)
    screen.open(f"{SHOWN}, temperature {options.temperature:g}", str(prompts[0].prompt))
    (batch,) = batches(prompts[:1], 1, options.seed)
    screen.close(complete(chosen.engine, policies[SHOWN], batch, options, screen.write))
    for temperature in TEMPERATURES:
        best = max((row for row in rows if row["temperature"] == temperature), key=lambda row: row["speedup"])
        echo(f"At temperature {temperature:g} {best['policy']} is {best['speedup']:.2f} x as fast as without a draft.")
