"""`stopkit train-pair`: how the bundled pair was made, and how to make another."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stopkit.cli.app import Command, echo
from stopkit.cli.options import options_of, quiet
from stopkit.errors import InputError
from stopkit.pair.recipe import DistillationPlan, ModelSize, Schedule

if TYPE_CHECKING:
    from stopkit.pair.pair import OnProgress, Recipe

SHARED_SIZE = ("vocabulary", "context")
SHARED_SCHEDULE = ("batch", "micro_batch", "learning_rate", "seed")
"""Fields that both models have in common."""
SHAPE = ("layers", "width", "heads")
"""Fields that each has for itself."""
PLAN = tuple(DistillationPlan.model_fields)
Function = TypeVar("Function", bound=Callable[..., Any])

MODELS = {
    "target": {"layers": 12, "width": 256, "heads": 4, "minutes": 95.0},
    "draft": {"layers": 2, "width": 128, "heads": 2, "minutes": 10.0},
}
"""Shape and training time of each model unless options say otherwise."""


def _model_options(function: Function) -> Function:
    for name, shape in MODELS.items():
        for field in SHAPE:
            function = click.option(f"--{name}-{field}", default=shape[field], type=int, show_default=True)(function)
        minutes = f"Training time.  [default: {shape['minutes']:g}, without --{name}-steps]"
        function = click.option(f"--{name}-minutes", type=float, metavar="MINUTES", help=minutes)(function)
        function = click.option(f"--{name}-steps", type=int, metavar="N", help="Most optimizer steps.")(function)
    return function


@click.command("train-pair", cls=Command)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the run.")
@click.option("--corpus", type=click.Path(path_type=Path), help="Folder of text. Default: the standard library.")
@click.option("--include", multiple=True, metavar="GLOB", help="Files to read; can be repeated.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Files to leave out; can be repeated.")
@click.option("--hold-out", multiple=True, metavar="GLOB", help="Files never trained on; can be repeated.")
@options_of(ModelSize, *SHARED_SIZE)
@_model_options
@options_of(Schedule, *SHARED_SCHEDULE, "compile")
@click.option("--target-of", metavar="PAIR", help="Take the target of this pair, a folder or `bundled`; train a draft.")
@click.option("--draft-from", metavar="PAIR", help="Go on with the draft of this pair instead of beginning anew.")
@click.option("--distil", is_flag=True, help="Let the draft learn the target's distribution instead of the text.")
@click.option("--distil-on", multiple=True, metavar="GLOB", help="Further files to copy the target on.")
@options_of(DistillationPlan, "samples")
@click.option("--report-every", type=float, default=60.0, show_default=True, help="Seconds between checkpoints.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
def train_pair(out: Path, report_every: float, resume: bool, **options: Any) -> None:
    """Train a target and a draft model.

    Reads a corpus, learns a tokenizer, trains the draft, then the target, and writes both with a model card to
    OUT/pair. Interrupted, it goes on from the last checkpoint with --resume.
    """
    quiet()

    from stopkit.pair.pair import make_pair

    recipe = _recipe(options)
    try:
        with _watch() as on_progress:
            folder = make_pair(
                recipe, out, resume=resume, say=echo, on_progress=on_progress, report_every_seconds=report_every
            )
    except KeyboardInterrupt:
        echo("Add --resume to go on from the last checkpoint.", err=True)
        raise
    echo(f"The pair and its MODEL_CARD.md are in {folder}.")


def _recipe(options: dict[str, Any]) -> "Recipe":
    from stopkit.pair.card import known
    from stopkit.pair.pair import Recipe
    from stopkit.validation import validated

    common = {name: options[name] for name in SHARED_SCHEDULE}
    target_of, draft_from = (_pair(options[option], option) for option in ("target_of", "draft_from"))
    shared = {name: options[name] for name in SHARED_SIZE}
    if target_of:
        shared = {name: known(target_of, "target")[name] for name in SHARED_SIZE}
    sizes, schedules = {}, {}
    for name, defaults in MODELS.items():
        shape = {field: options[f"{name}_{field}"] for field in SHAPE}
        if name == "draft" and draft_from:
            shape = {field: known(draft_from, name)[field] for field in SHAPE}
            _require_same_sizes(known(draft_from, name), shared)
        sizes[name] = validated(ModelSize, shape | shared, name)
        steps, minutes = options[f"{name}_steps"], options[f"{name}_minutes"]
        length = {"steps": steps, "minutes": defaults["minutes"] if steps is None and minutes is None else minutes}
        compiled = {"compile": options["compile"] and name == "target"}
        schedules[name] = validated(Schedule, common | length | compiled, name)
    given = {name: options[name] for name in ("corpus", "include", "exclude", "hold_out") if options[name]}
    if options["distil"]:
        given["distillation"] = validated(
            DistillationPlan, {name: options[name] for name in PLAN if options[name] != ()}, "distil"
        )
    return Recipe(**given, target_of=target_of, draft_from=draft_from, sizes=sizes, schedules=schedules)


def _require_same_sizes(draft: dict[str, Any], shared: dict[str, Any]) -> None:
    for name, wanted in shared.items():
        if draft[name] != wanted:
            raise InputError(
                f"--draft-from: its draft has {name} {draft[name]}, the target {wanted}; name a pair of one tokenizer."
            )


def _pair(name: str | None, option: str) -> Path | None:
    if name is None:
        return None
    from stopkit.pair.bundled import FOLDER

    folder = FOLDER if name == "bundled" else Path(name)
    if not (folder / "card.json").is_file():
        raise InputError(
            f"--{option.replace('_', '-')}: {folder} has no card.json; name a folder `pair` that train-pair wrote, or "
            "bundled."
        )
    return folder


@contextmanager
def _watch() -> "Iterator[OnProgress]":
    """Show progress live on a terminal, a line a report elsewhere; a line for every model that is done in any case."""
    from rich.progress import TaskProgressColumn, TimeElapsedColumn

    from stopkit.cli.progress import progress_bar
    from stopkit.tables import console

    silent = not console(stderr=True).is_terminal
    with progress_bar("", 1.0, TaskProgressColumn(), TimeElapsedColumn()) as update:

        def on_progress(name: str, progress: Any, share: float) -> None:
            line = f"{name}: step {progress.step:,}, loss {progress.loss:.3f}, held-out {progress.held_out_loss:.3f}"
            update(completed=share, description=line)
            if silent or share >= 1:
                echo(f"{line}, {share:.0%} done")

        yield on_progress
