"""What every command has in common: exit codes, errors as lines, `--debug`.

Exit codes: 0 done; 1 the work failed; 2 the input was wrong; 130 interrupted.
"""

import logging
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from types import FrameType
from typing import Any, NoReturn, Self

import click

from stopkit.cli.outputs import WrittenElsewhere
from stopkit.errors import InputError, StopkitError, one_line, printable
from stopkit.extras import extra_for

COMMANDS = "stopkit.commands"
"""The entry-point group of commands that other packages offer."""
HEADINGS = {
    "Prompts": ("prompt_file", "prompts", "chat", "batch_size"),
    "Policy": ("policy", "policies", "costs", "load_state", "save_state"),
    "Models": ("config", "target", "draft", "engine", "device", "dtype"),
    "Text": (
        *("temperature", "temperatures", "max_new_tokens", "seed", "stop"),
        *("top_k", "top_p", "min_p", "sampling", "coupling"),
    ),
    "Machines": ("shard", "ray", "workers"),
    "Output": ("out", "show_origin", "json_file", "plot", "force"),
}
"""What stands under which heading of a command's help."""
_HEADING = {name: heading for heading, names in HEADINGS.items() for name in names}
OTHERS = "Options"
MANY = 15
"""Options of a command; fewer have one heading."""
FAILED, WRONG_INPUT, INTERRUPTED = 1, 2, 130
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def echo(text: object, err: bool = False) -> None:
    """Print a line. On a terminal control characters are shown as escapes, since paths and names may hold some."""
    stream = sys.stderr if err else sys.stdout
    click.echo(printable(str(text)) if stream.isatty() else str(text), err=err)


def _debug_option() -> click.Option:
    """`--debug`, before or after the command's name; `App.main` looks for it."""
    return click.Option(["--debug"], is_flag=True, expose_value=False, help="Show the traceback of an error.")


class Command(click.Command):
    """A command that knows --debug, and whose help has a heading for each group of options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_debug_option())

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings, if they are too many for one."""
        options = (param for param in self.get_params(ctx) if isinstance(param, click.Option))
        shown = [(option.name, record) for option in options if (record := option.get_help_record(ctx)) is not None]
        headings = dict.fromkeys((*HEADINGS, OTHERS)) if len(shown) > MANY else {OTHERS: None}
        for heading in headings:
            here = [
                record for name, record in shown if len(headings) == 1 or _HEADING.get(str(name), OTHERS) == heading
            ]
            if here:
                with formatter.section(heading):
                    formatter.write_dl(here)


class Group(click.Group):
    """A group that knows --debug and lists its commands in the order they were added."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_debug_option())

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def offered_commands() -> Iterator[click.Command]:
    """The commands of other packages, which name them in the entry-point group `stopkit.commands`.

    One that cannot be imported breaks no other: called, it says why.
    """
    for entry in sorted(entry_points(group=COMMANDS), key=lambda entry: entry.name):
        try:
            yield entry.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            yield _broken(entry, extra_for(error) or one_line(f"{type(error).__name__}: {error}"))


def _broken(entry: EntryPoint, reason: str) -> Command:
    def fail() -> NoReturn:
        raise StopkitError(f"stopkit {entry.name}: {entry.value} cannot be loaded: {reason}")

    return Command(entry.name, callback=fail, help=f"Cannot be loaded: {reason}")


class App(Group):
    """The group of all commands: what becomes of their errors."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> NoReturn:
        """Run and exit; an error becomes lines on standard error and an exit code."""
        arguments = list(sys.argv[1:] if args is None else args)
        interrupts = _Interrupts()
        try:
            with interrupts, _progress():
                code = super().main(arguments, *rest, **extra | {"standalone_mode": False})
        except (Exception, KeyboardInterrupt) as raised:
            error = KeyboardInterrupt() if interrupts.came and not isinstance(raised, WrittenElsewhere) else raised
            if "--debug" in arguments:
                traceback.print_exception(error)
            lines, code = explain(error)
            for line in lines:
                click.echo(f"error: {printable(line)}", err=True)
        sys.exit(code if isinstance(code, int) else 0)


@contextmanager
def _progress() -> Iterator[None]:
    """Within it what stopkit logs is told on standard error."""
    log, teller = logging.getLogger("stopkit"), _Teller(logging.INFO)
    before = log.level
    log.addHandler(teller)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(teller)
        log.setLevel(before)


class _Teller(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        echo(record.getMessage(), err=True)


class _Interrupts:
    """Within it SIGINT and SIGTERM, with which clusters and containers end a job, raise KeyboardInterrupt.

    `came` tells whether one of them did: some libraries turn an interrupt of their imports into other errors.
    """

    def __init__(self) -> None:
        self.came = False

    def __enter__(self) -> Self:
        here = threading.current_thread() is threading.main_thread()  # which alone can be asked
        self._before = {number: signal.signal(number, self._interrupt) for number in SIGNALS} if here else {}
        return self

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        raise KeyboardInterrupt

    def __exit__(self, *raised: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def explain(error: BaseException) -> tuple[list[str], int]:
    """The lines that tell a user about `error`, and the exit code."""
    if isinstance(error, (click.Abort, KeyboardInterrupt)):
        return ["interrupted."], INTERRUPTED
    if isinstance(error, click.UsageError):
        hint = f" Try {error.ctx.command_path} --help." if error.ctx else ""
        return [error.format_message() + hint], WRONG_INPUT
    if isinstance(error, click.ClickException):
        return [error.format_message()], WRONG_INPUT
    if isinstance(error, StopkitError):
        return str(error).splitlines(), WRONG_INPUT if isinstance(error, InputError) else FAILED
    if extra := extra_for(error):
        return [f"this {extra}."], FAILED
    reason = " ".join(str(error).split())
    return [f"{type(error).__name__}: {reason} (--debug shows where)"], FAILED
