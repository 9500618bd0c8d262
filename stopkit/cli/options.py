"""The options that commands share, and how they become a config."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem
from pydantic import BaseModel

from stopkit.cli.outputs import force_option, output_option
from stopkit.errors import InputError

if TYPE_CHECKING:
    from stopkit.config import Config
    from stopkit.prompts import WrittenPrompt

Function = TypeVar("Function", bound=Callable[..., Any])

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def kinds(section: str) -> Complete:
    """What a shell completes: the kinds of "policies" or "engines", else files."""

    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        from stopkit.plugins import registry

        found = [CompletionItem(kind) for kind in getattr(registry(), section) if kind.startswith(begun)]
        return found or [CompletionItem(begun, type="file")]

    return complete


ENGINE_FIELDS = {"engine": "kind", "target": "target", "draft": "draft", "device": "device", "dtype": "dtype"}
"""Options that set fields of the config's engine section."""
GENERATION_FIELDS = ("temperature", "seed", "max_new_tokens", "top_k", "top_p", "min_p", "stop", "coupling", "sampling")
"""Options that set fields of the config's generation section."""

TARGET_HELP = "Model whose output is wanted: a folder, a GGUF file, a hub id, bundled:target."
DRAFT_HELP = "What drafts for it: a model, prompt_lookup, early_exit:layers=N, or KIND:field=value,field=value."
MODEL_OPTIONS = (
    click.option(
        "-c", "--config", type=click.Path(path_type=Path), help="TOML, JSON or YAML file; options win over it."
    ),
    click.option(
        "--target",
        metavar="MODEL",
        help=f"{TARGET_HELP}  [default: bundled:target]",
    ),
    click.option(
        "--draft",
        metavar="DRAFT",
        help=f"{DRAFT_HELP}  [default: bundled:draft]",
    ),
    click.option(
        "--engine",
        metavar="KIND",
        shell_complete=kinds("engines"),
        help="Engine to run on; `stopkit engines` lists them.  [default: eager]",
    ),
    click.option(
        "--device", metavar="DEVICE", help="Where to run, such as cpu or cuda:1; auto prefers CUDA.  [default: auto]"
    ),
    click.option(
        "--dtype",
        type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
        help="Weights and activations; auto is the checkpoint's on a GPU, on a CPU bfloat16 if that is fast and the "
        "checkpoint in half precision, else float32.  [default: auto]",
    ),
)
DRAWING_OPTIONS = (
    click.option("-s", "--seed", type=int, help="Seed of the run; every sequence gets its own from it.  [default: 0]"),
    click.option(
        "-n", "--max-new-tokens", type=int, metavar="N", help="Most tokens to generate for a prompt.  [default: 128]"
    ),
    click.option("--top-k", type=int, metavar="K", help="Keep the K most probable tokens."),
    click.option("--top-p", type=float, metavar="P", help="Keep the smallest set with this much probability."),
    click.option(
        "--sampling",
        type=click.Choice(["given", "model"]),
        help="Temperature and truncation: those given, or those of the target's generation config.  [default: given]",
    ),
    click.option(
        "--coupling",
        type=click.Choice(["maximal", "invariant"]),
        help="How draft and target draw: maximal accepts most; with invariant a seed is one text, whatever drafts.  "
        "[default: maximal]",
    ),
    click.option("--min-p", type=float, metavar="P", help="Keep tokens with this share of the largest probability."),
)
PROMPTS_HELP = "A .txt or .jsonl file of prompts, or a data set: spec-bench:TASK@FOLDER, speed-bench:TASK@FOLDER."
POLICY_HELP = "KIND, KIND:field=value,field=value, a config file, or FILE.py[::Class][:field=value]."
BATCH_OPTIONS = (
    click.option("--stop", multiple=True, metavar="TEXT", help="Text that ends a completion; can be repeated."),
    click.option(
        "-b", "--batch-size", type=click.IntRange(min=1), default=1, show_default=True, help="Prompts at a time."
    ),
)


def model_options(function: Function) -> Function:
    """The options that say what to run on."""
    return _apply(MODEL_OPTIONS, function)


def sampling_options(function: Function) -> Function:
    """The options that say how to sample, temperature apart."""
    return _apply((*DRAWING_OPTIONS, *BATCH_OPTIONS), function)


def drawing_options(function: Function) -> Function:
    """The sampling options that say how tokens are drawn, and how many."""
    return _apply(DRAWING_OPTIONS, function)


def policy_option(function: Function) -> Function:
    """`--policy POLICY`, any number of times."""
    option = click.option(
        "-p",
        "--policy",
        "policies",
        multiple=True,
        metavar="POLICY",
        shell_complete=kinds("policies"),
        help=POLICY_HELP,
    )
    return option(function)


def options_of(fields: type[BaseModel], *names: str) -> Callable[[Function], Function]:
    """An option for each field of a pydantic model, or for those called `names`, with the field's default and help."""

    def decorate(function: Function) -> Function:
        chosen = {name: fields.model_fields[name] for name in names or fields.model_fields}
        for name, field in reversed(chosen.items()):
            text = f"{field.description}."
            option = click.option(
                f"--{name.replace('_', '-')}",
                type=field.annotation,
                default=field.default,
                is_flag=field.annotation is bool,
                show_default=field.annotation is not bool,
                help=text[0].upper() + text[1:],
            )
            function = option(function)
        return function

    return decorate


def order_options(function: Function) -> Function:
    """`--sort` and `--top`, for tables of policies."""
    for option in (
        click.option("--top", type=click.IntRange(min=1), metavar="N", help="Show only the N best, and the controls."),
        click.option(
            "--sort",
            type=click.Choice(["speedup", "block_efficiency", "acceptance_rate", "drafted"]),
            default="speedup",
            show_default=True,
            help="What the table is sorted by, the most first.",
        ),
    ):
        function = option(function)
    return function


def json_option(function: Function) -> Function:
    """`--json FILE`, and `--force`."""
    option = output_option(
        "--json",
        "json_file",
        holds="results",
        metavar="FILE",
        help="Write conditions and rows as one JSON object; - is standard output.",
    )
    return force_option(option(function))


def load(config: Path | None, options: Mapping[str, Any], policy: str | None = None) -> "Config":
    """The config that a file and options make together; an option that was not given is None or ()."""
    from stopkit.config import load_config
    from stopkit.rule_file import written_policy

    given = {name: value for name, value in options.items() if value not in (None, ())}
    sections: dict[str, Any] = {
        "engine": {field: given[name] for name, field in ENGINE_FIELDS.items() if name in given},
        "generation": {name: given[name] for name in GENERATION_FIELDS if name in given},
    }
    quiet()
    return load_config(config, sections if policy is None else sections | {"policy": written_policy(policy)})


def prompts_from(text: str | None, file: Path | None) -> "list[WrittenPrompt]":
    """The one prompt of the command line, or those of a file."""
    from stopkit.prompts import WrittenPrompt, read_prompts

    if (text is None) == (file is None):
        raise click.UsageError("Give either a PROMPT or --prompt-file.")
    if file is not None:
        return read_prompts(file)
    if not text:
        raise InputError("PROMPT: is empty; write some text to continue.")
    return [WrittenPrompt(text, "PROMPT")]


def quiet() -> None:
    """Keep transformers' progress bars and advice out of what a command prints."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def _apply(options: tuple[Callable[[Any], Any], ...], function: Function) -> Function:
    for option in reversed(options):
        function = option(function)
    return function
