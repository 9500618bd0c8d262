"""`stopkit train-head`: a head that predicts acceptance, from a trace with hidden states."""

from pathlib import Path
from typing import Any

import click

from stopkit.cli.app import Command, echo
from stopkit.cli.options import options_of
from stopkit.cli.outputs import force_option, output_option, save
from stopkit_policies.head.recipe import HeadRecipe


@click.command("train-head", cls=Command)
@click.option("--trace", required=True, type=click.Path(path_type=Path), help="Trace with hidden states.")
@output_option("--out", holds="head", required=True, metavar="FILE", help="File to write, NAME.safetensors.")
@force_option
@options_of(HeadRecipe)
def train_head(trace: Path, out: str, **options: Any) -> None:
    """Train the head of the policy acceptance_head.

    The trace must have been recorded with hidden states. Some of its sequences only judge the head; the weights of the
    best pass are written, with a card that says what they were trained on and how well.
    """
    from stopkit.errors import InputError
    from stopkit.trace.trace import Trace
    from stopkit.validation import validated
    from stopkit_policies.head import training
    from stopkit_policies.head.network import save_head

    if Path(out).suffix != ".safetensors":
        raise InputError(f"--out: {out}: a head's file ends in .safetensors.")
    recipe = validated(HeadRecipe, options, "train-head")

    def say(epoch: training.Epoch) -> None:
        line = f"loss {epoch.loss:.4f}, held-out {epoch.validation_loss:.4f}"
        echo(f"epoch {epoch.number} of {recipe.epochs}: {line}", err=True)

    trained = training.train_head(Trace.open(trace, hidden_state=True), recipe, say)
    save((out, lambda place: save_head(trained.head, trained.card, Path(place))))
    best, constant = trained.card["best"], trained.card["constant_validation_loss"]
    verdict = (
        f"Use it with --policy acceptance_head:weights={out}"
        if best["validation_loss"] < constant
        else "It has learned nothing that a fixed length does not know: train it on more sequences, or for longer."
    )
    echo(
        f"{out}: held-out loss {best['validation_loss']:.4f} after pass {best['number']}; the best constant has "
        f"{constant:.4f}. {verdict}"
    )
