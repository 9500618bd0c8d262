"""Starting is cheap, help is there, and errors have their exit codes."""

import subprocess
import sys
from importlib.metadata import EntryPoint

import click
import pytest

from stopkit import StopkitError
from stopkit.cli import main
from stopkit.cli.app import offered_commands
from tests.cli.conftest import Run


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in main.commands)], ids=" ".join)
def test_help_loads_no_torch(arguments: list[str]) -> None:
    code = (
        "import sys; from stopkit.cli import main\n"
        f"try: main({arguments!r}, 'stopkit')\n"
        "except SystemExit as done: assert not done.code\n"
        "assert not {'torch', 'transformers', 'rich'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage: stopkit" in done.stdout


def test_every_option_has_a_help_text() -> None:
    for name, command in main.commands.items():
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert option.help or option.show_default, f"{name} {option.name}"


def test_alone_it_shows_its_help(run: Run) -> None:
    done = run()
    assert done.exit_code == 0
    assert "Commands:" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["gnerate"], "No such command 'gnerate'. Did you mean 'generate'?"),
        (["generate", "x", "--tempe", "1"], "No such option '--tempe'."),
        (["generate"], "Give either a PROMPT or --prompt-file."),
        (["generate", "x", "--prompt-file", "y.txt"], "Give either a PROMPT or --prompt-file."),
        (["generate", "x", "--json", "no/such/folder/out.json"], "its folder does not exist"),
    ],
)
def test_wrong_usage_is_one_line(run: Run, arguments: list[str], line: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert line in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize(
    "arguments",
    [["--debug", "policies", "show", "nope"], ["policies", "show", "nope", "--debug"]],
    ids=["first", "last"],
)
def test_debug_shows_the_traceback(run: Run, arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert "Traceback" in done.stderr


def test_what_nobody_expected_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stopkit.schema.config_schema", lambda registered: 1 / 0)
    done = run("schema")
    assert done.exit_code == 1
    assert done.stderr == "error: ZeroDivisionError: division by zero (--debug shows where)\n"


def test_a_plug_in_that_cannot_be_found_is_wrong_input(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from stopkit.plugins import registry

    monkeypatch.setenv("STOPKIT_PLUGINS", "policys")
    registry.cache_clear()
    done = run("policies")
    registry.cache_clear()
    assert done.exit_code == 2
    assert "STOPKIT_PLUGINS" in done.stderr
    assert "Did you mean 'policies'?" in done.stderr


def test_it_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "stopkit", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["stopkit,", "version"])


def test_a_command_of_another_package_is_offered() -> None:
    train_head = main.commands["train-head"]
    assert train_head.callback.__module__ == "stopkit_policies.head.command"  # type: ignore[union-attr]


def test_a_command_that_cannot_be_imported_says_why_and_breaks_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    places = {"b": "none:main", "a": "stopkit.cli:main"}
    points = [EntryPoint(name, place, "stopkit.commands") for name, place in places.items()]
    monkeypatch.setattr("stopkit.cli.app.entry_points", lambda group: points)
    sound, broken = offered_commands()
    assert sound is main
    assert "Cannot be loaded: ModuleNotFoundError: No module named 'none'" in broken.get_help(click.Context(broken))
    with pytest.raises(StopkitError, match="stopkit b: none:main cannot be loaded: ModuleNotFoundError"):
        broken.main([], standalone_mode=False)
