"""`stopkit bench`: engines, policies and transformers' own generate side by side, in one process."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from stopkit.cli.app import Command, echo
from stopkit.cli.options import DRAFT_HELP, TARGET_HELP, json_option, quiet
from stopkit.cli.outputs import output_option, save

DEFAULTS = {
    "engines": ("eager", "compiled"),
    "policies": ("static:length=2", "static:length=3", "adaedl", "max_probability", "drawn_probability", "goodput"),
    "temperatures": (0.0, 1.0),
    "dtypes": ("float32", "bfloat16"),
    "batch_sizes": (1,),
}
several: dict[str, Any] = {"multiple": True, "show_default": True}


@click.command("bench", cls=Command, short_help="Measure engines, policies and peers side by side.")
@click.option("--target", default="bundled:target", show_default=True, metavar="MODEL", help=TARGET_HELP)
@click.option("--draft", default="bundled:draft", show_default=True, metavar="DRAFT", help=DRAFT_HELP)
@click.option("--engine", "engines", default=DEFAULTS["engines"], metavar="KIND", help="Engines.", **several)
@click.option("--policy", "policies", default=DEFAULTS["policies"], metavar="POLICY", help="Policies.", **several)
@click.option("--peers/--no-peers", default=True, show_default=True, help="transformers, plain and assisted.")
@click.option("--temperature", "temperatures", default=DEFAULTS["temperatures"], type=float, **several)
@click.option(
    "--dtype",
    "dtypes",
    default=DEFAULTS["dtypes"],
    type=click.Choice(["float32", "bfloat16", "float16"]),
    **several,
)
@click.option("--batch-size", "batch_sizes", default=DEFAULTS["batch_sizes"], type=click.IntRange(min=1), **several)
@click.option("--prompt-tokens", "lengths", type=click.IntRange(min=1), multiple=True, help="Lengths of prompts.")
@click.option("--prompts", type=click.IntRange(min=1), default=8, show_default=True, help="Held-out prompts.")
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True, help="Passes over the prompts.")
@output_option("--plot", holds="plot", metavar="FILE", help="Write tokens per second as an SVG.")
@json_option
def bench(json_file: str | None, plot: str | None, **asked: Any) -> None:
    """Measure engines, policies and transformers' own generate side by side.

    Everyone continues the same held-out prompts of Python code, in turns, in an order that rotates. Options that choose
    can be given several times. Speed-ups are against decoding without a draft on the same engine; `assisted` is against
    the best of transformers' assisted generation. Interrupted, it reports the passes that are complete.
    """
    quiet()

    from stopkit.conditions import conditions
    from stopkit.tables import console, table, write_json
    from stopkit_engines.bench.contestants import PEER
    from stopkit_engines.bench.plot import plot as drawn
    from stopkit_engines.bench.report import COLUMNS, SECTIONS, failures

    rows: list[dict[str, Any]] = []
    try:
        for part in _parts(asked):
            rows += part
    finally:
        if rows and json_file != "-":
            console().print(table([row for row in rows if "error" not in row], COLUMNS, *SECTIONS))
            for line in failures(rows):
                echo(line, err=True)
        if rows:
            save(
                (json_file, lambda place: write_json(place, conditions(**asked), rows)),
                (plot, lambda place: Path(place).write_text(drawn(rows, PEER), encoding="utf-8")),
            )


def _parts(asked: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """The rows of every dtype, batch size, length of prompts and temperature, as they are measured."""
    from stopkit.cli.progress import progress_bar
    from stopkit.generation import GenerationOptions
    from stopkit.pair.corpus import held_out_prompts
    from stopkit.validation import validated
    from stopkit_engines.bench.contest import Contest
    from stopkit_engines.bench.field import Field

    texts = held_out_prompts(max(asked["prompts"], *asked["batch_sizes"]))
    for dtype in asked["dtypes"]:
        field = Field(asked["target"], asked["draft"], dtype, asked["engines"], asked["policies"], asked["peers"])
        for length in asked["lengths"] or (None,):
            prompts = field.prompts(texts, length)
            for size in asked["batch_sizes"]:
                batches = [prompts[at : at + size] for at in range(0, len(prompts) - size + 1, size)]
                for temperature in asked["temperatures"]:
                    given = {"temperature": temperature, "max_new_tokens": asked["max_new_tokens"]}
                    options = validated(GenerationOptions, given, "bench")
                    contest = Contest(field.of(size), batches, options, field.device)
                    about = {"dtype": dtype, "prompt_tokens": length}
                    try:
                        with progress_bar(f"{dtype}, temperature {temperature:g}", None) as update:
                            for name in contest.passes(asked["repeats"]):
                                update(description=f"{dtype}, {temperature:g}: {name.engine} {name.policy}")
                    finally:
                        yield [about | row for row in contest.rows()]
