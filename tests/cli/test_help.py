"""Help fits a narrow terminal, tells real defaults, and a shell completes kinds."""

import re
from typing import Any

import click
import pytest
from click.shell_completion import ShellComplete

from stopkit.cli import main
from stopkit.config import load_config
from stopkit.generation import GenerationOptions
from tests.cli.conftest import Run

ABBREVIATED = "..."


def test_every_command_says_what_it_does_in_one_line(run: Run) -> None:
    listed = run("-h").stdout.partition("Commands:\n")[2].splitlines()
    assert len(listed) == len(main.commands)  # type: ignore[attr-defined]
    assert not [line for line in listed if ABBREVIATED in line or len(line) > 80]
    assert ABBREVIATED not in run("trace", "-h").stdout.partition("Commands:")[2]


def test_many_options_have_headings_and_few_have_one(run: Run) -> None:
    headings = re.findall(r"^(\w+):$", run("generate", "--help").stdout, re.M)
    assert headings == ["Prompts", "Policy", "Models", "Text", "Output", "Options"]
    assert re.findall(r"^(\w+):$", run("check", "--help").stdout, re.M) == ["Options"]


def test_every_option_is_under_some_heading(run: Run) -> None:
    text = run("generate", "--help").stdout
    options = [option for param in main.commands["generate"].params for option in param.opts]  # type: ignore[attr-defined]
    assert not [option for option in options if option.startswith("--") and option not in text]


def _told(run: Run) -> dict[str, str]:
    """Every default that the help of `generate` tells, by option."""
    context = click.Context(main.commands["generate"])  # type: ignore[attr-defined]
    options = [param for param in context.command.params if isinstance(param, click.Option)]
    found = {str(option.name): re.search(r"\[default: ([^\]]+)\]", option.help or "") for option in options}
    return {name: match[1] for name, match in found.items() if match}


def test_defaults_are_those_of_a_config(run: Run) -> None:
    config, told = load_config(None, {}), _told(run)
    engine: Any = config.engine
    expected = {name: field.default for name, field in GenerationOptions.model_fields.items() if field.default}
    expected |= {"seed": 0, "policy": config.policy.kind, "engine": engine.kind, "target": engine.target}
    expected |= {"draft": engine.draft, "device": engine.device, "dtype": engine.dtype}
    expected.pop("stop", None)
    assert {name: told[name] for name in expected} == {name: str(value) for name, value in expected.items()}


@pytest.mark.parametrize(
    ("words", "begun", "found"),
    [
        (["generate", "--policy"], "ada", {"adaedl"}),
        (["generate", "-p"], "max", {"max_probability"}),
        (["compare", "--policy"], "good", {"goodput"}),
        (["generate", "--engine"], "comp", {"compiled"}),
        (["check"], "stat", {"static"}),
        ([], "trai", {"train-pair", "train-head"}),
    ],
)
def test_a_shell_completes_kinds(words: list[str], begun: str, found: set[str]) -> None:
    completions = ShellComplete(main, {}, "stopkit", "_STOPKIT_COMPLETE").get_completions(words, begun)
    assert {item.value for item in completions} == found


def test_what_is_no_kind_may_be_a_file() -> None:
    (item,) = ShellComplete(main, {}, "stopkit", "_STOPKIT_COMPLETE").get_completions(["generate", "-p"], "./my_r")
    assert (item.value, item.type) == ("./my_r", "file")
