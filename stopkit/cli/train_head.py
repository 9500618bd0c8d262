"""`stopkit train-head`: a head that predicts acceptance, from a trace with hidden states."""

from pathlib import Path
from typing import Any

import click

from stopkit.cli.app import Command
from stopkit.cli.options import writable


@click.command("train-head", cls=Command)
@click.option("--trace", required=True, type=click.Path(path_type=Path), help="Trace with hidden states.")
@click.option("--out", required=True, callback=writable, metavar="FILE", help="File to write, NAME.safetensors.")
@click.option("--layers", type=int, default=3, show_default=True, help="Residual blocks.")
@click.option("--rejection-weight", type=float, default=6.0, show_default=True, help="Of a rejection in the loss.")
@click.option(
    "--mixing-ratio", type=float, default=0.15, show_default=True, help="Share of tokens after the target's own."
)
@click.option("--validation", type=float, default=0.2, show_default=True, help="Share of sequences to judge it by.")
@click.option("--epochs", type=int, default=20, show_default=True, help="Passes over the trace.")
@click.option("--batch", type=int, default=256, show_default=True, help="Tokens a step.")
@click.option("--learning-rate", type=float, default=1e-3, show_default=True, help="Its peak.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the split, the weights and the batches.")
def train_head(trace: Path, out: str, **options: Any) -> None:
    """Train the head of the policy acceptance_head.

    The trace must have been recorded with hidden states. Some of its sequences only judge the head; the weights of the
    best pass are written, with a card that says what they were trained on and how well.
    """
    from stopkit.errors import InputError
    from stopkit.head.head import save_head
    from stopkit.head.training import Epoch, HeadRecipe
    from stopkit.head.training import train_head as train
    from stopkit.trace.trace import Trace
    from stopkit.validation import validated

    if Path(out).suffix != ".safetensors":
        raise InputError(f"--out: {out}: a head's file ends in .safetensors.")
    recipe = validated(HeadRecipe, options, "train-head")

    def report(epoch: Epoch) -> None:
        line = f"loss {epoch.loss:.4f}, held-out {epoch.validation_loss:.4f}"
        click.echo(f"epoch {epoch.number} of {recipe.epochs}: {line}", err=True)

    trained = train(Trace.open(trace, hidden_state=True), recipe, report)
    save_head(trained.head, trained.card, Path(out))
    best = trained.card["best"]
    click.echo(
        f"{out}: held-out loss {best['validation_loss']:.4f} after pass {best['number']}; the best constant has "
        f"{trained.card['constant_validation_loss']:.4f}. Use it with --policy acceptance_head:weights={out}"
    )
