"""Makes the reference pages from the code that they describe, whenever the site is built.

mkdocs calls `on_files`. Each function in `PAGES` returns the text of one page.
"""

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from textwrap import indent
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel

import stopkit.testing
from stopkit.cli import main
from stopkit.generation import GenerationOptions
from stopkit.kinds import distribution_of
from stopkit.plugins import registry
from stopkit.schema import Field as ConfigField
from stopkit.schema import config_schema, fields
from stopkit.testing import Check
from stopkit.testing.for_engines import ENGINE_CHECKS
from stopkit.testing.for_policies import POLICY_CHECKS
from stopkit.trace.format import COLUMNS, FORMAT, KEY, OPTIONAL, VERSION, FileColumn, Metadata, Timings

PYTHON: dict[str, tuple[str, ...]] = {
    "Load": ("load_policy", "load_engine", "load_config", "Config"),
    "Use models that are loaded": ("assisted", "wrap"),
    "Generate": ("Engine", "GenerationResult"),
    "Replay": ("replay", "Ranking"),
    "Write a policy": ("StoppingPolicy", "ThresholdPolicy", "ScalarPolicy", "CarryOver"),
    "Make a policy of policies": ("Combinator", "SideBySide", "NestedPolicy"),
    "What a policy is shown": ("Signals", "Drawn", "RoundContext", "RoundOutcome", "Costs", "State"),
    "Offer a plug-in": ("hookimpl",),
    "Drive a loop of your own": ("DraftController",),
    "Errors": ("StopkitError", "InputError", "GenerationError", "PolicyError"),
}
"""Every public name of `stopkit`, by what one wants to do with it."""

FIELDS = ("name", "type", "default", "bounds", "description")
HELP_WIDTH = 80


def policies() -> str:
    """Every registered policy."""
    found = registry().policies
    overview = [(f"[`{kind}`](#{_anchor(kind)})", _code(cls.formula)) for kind, cls in found.items()]
    parts = [
        "# Policies",
        "Everything that is installed, as `stopkit policies show KIND` prints it. Fields are set in the `[policy]` "
        "section of a [config file](config.md), or as `KIND:field=value,field=value` on the command line. "
        "`autoregressive` is another name for `static` with `length = 0`.",
        _table(("kind", "rule"), overview),
    ]
    for kind, cls in found.items():
        parts += [f"## {kind} {{#{_anchor(kind)}}}", _provenance(cls), _prose(cls), _fields(fields(cls))]
        if cls.signals:
            parts.append(f"Reads the signals {', '.join(f'`{name}`' for name in sorted(cls.signals))}.")
        if cls.context:
            parts.append(f"Reads {', '.join(f'`{name}`' for name in sorted(cls.context))} of the round's context.")
    return _page(parts)


def engines() -> str:
    """Every registered engine."""
    parts = [
        "# Engines",
        "What can run models. Fields are set in the `[engine]` section of a [config file](config.md).",
    ]
    for kind, cls in registry().engines.items():
        parts += [f"## {kind} {{#{_anchor(kind)}}}", _provenance(cls), _prose(cls), _fields(fields(cls))]
    return _page(parts)


def command_line() -> str:
    """The help text of every command."""
    parts = [
        "# Command line",
        "These are the commands' own help texts. A policy is written as its `KIND`, as "
        "`KIND:field=value,field=value`, as the path of a config file, or as [that of a Python "
        "file](../how-to/a-rule-in-a-file.md), `FILE.py[::Class][:field=value]`.",
        _table(
            ("exit code", "meaning"),
            [
                ("0", "done"),
                ("1", "the work failed"),
                ("2", "the input was wrong; a line on standard error says where and how"),
                ("130", "interrupted; what was complete has been printed and saved"),
            ],
        ),
    ]
    for name, command in _commands("stopkit", main):
        context = click.Context(command, info_name=name, terminal_width=HELP_WIDTH, max_content_width=HELP_WIDTH)
        parts += [f"## {name}", f"```text\n{command.get_help(context)}\n```"]
    return _page(parts)


def config() -> str:
    """The config file."""
    schema = json.dumps(config_schema(registry()), indent=2, ensure_ascii=False)
    return _page(
        [
            "# Config files",
            "TOML, JSON or YAML, by the file's suffix; UTF-8. Every section can be left out. An unknown section, "
            "kind or field is an error that names its place.",
            _table(
                ("section", "holds"),
                [
                    ("`[policy]`", "`kind` and the fields of a [policy](policies.md); `adaedl` if left out"),
                    ("`[engine]`", "`kind` and the fields of an [engine](engines.md); the bundled pair if left out"),
                    ("`[generation]`", "how to generate, see below"),
                ],
            ),
            "## Generation",
            _fields(fields(GenerationOptions)),
            "## Plug-ins",
            "The environment variable `STOPKIT_PLUGINS` names the entry points to load, with commas between them. "
            "Unset, all are loaded; empty, none.",
            "## JSON Schema",
            "`stopkit schema` prints it for what is installed.",
            '??? note "The schema"\n\n' + indent(f"```json\n{schema}\n```", "    "),
        ]
    )


def statistics() -> str:
    """The vocabulary of results."""
    return _page(
        [
            "# Statistics",
            "One vocabulary for `result.stats`, for tables and for JSON. Rounds, drafted and accepted tokens are "
            "counted for each sequence and added up over a batch; forwards are counted by call; seconds are wall time. "
            "[Why so](../explanation/decisions/0005-what-is-counted-where.md).",
            "A command's `--json` writes one object with `conditions` and `rows`. A row has these fields, "
            "the derived ones among them, and `policy`, `engine`, `temperature`, `batch_size` and `speedup`.",
            "Where policies are compared, `speedup_interval` is a 95% interval by bootstrap over sequences; `of_best` "
            "is the speed-up as a share of the best policy's, `of_best_interval` its interval by the same resamples "
            "for both, and `like_best` whether that holds 1. Intervals are unset for a single sequence.",
            _reference("stopkit.statistics.Statistics"),
        ]
    )


def trace_format() -> str:
    """The files of a trace."""

    def columns(found: Iterable[FileColumn]) -> str:
        return _table(
            ("column", "type", "holds"),
            [(f"`{column.name}`", str(column.type), column.meaning + _since(column)) for column in found],
        )

    return _page(
        [
            "# Trace format",
            f"A trace is a [Parquet](https://parquet.apache.org) file, or a folder of them, of version {VERSION}. "
            "Earlier versions are read, too: they lack the columns that came later. "
            "[Record a trace](../how-to/record.md) makes one. There is a row for every position of every rollout, and "
            "one for every start at which nothing could be drafted.",
            "## Columns",
            columns(COLUMNS),
            "With `--top-k-logits` and `--hidden-state` there are more:",
            columns(OPTIONAL),
            "At temperature 0 distributions are one-hot. `entropy`, `max_probability`, `margin`, `top_token` and "
            "`target_entropy` are then those of the plain softmax, as policies are shown them.",
            "## Metadata",
            f"In the file's metadata, `{KEY.decode()}` is one JSON object: `format` is `{FORMAT}`, `version` is "
            f"{VERSION}, and `recording` has these fields. Files with a later version are refused.",
            _model(Metadata),
            "`timings` has these:",
            _model(Timings),
        ]
    )


def _model(cls: type[BaseModel]) -> str:
    rows = [(f"`{name}`", str(field.description)) for name, field in cls.model_fields.items()]
    return _table(("field", "holds"), rows)


def python() -> str:
    """The public Python interface."""
    parts = ["# Python", "All of these can be imported from `stopkit`. Importing `stopkit` alone loads no torch."]
    for title, names in PYTHON.items():
        parts += [f"## {title}", *(_reference(f"stopkit.{name}") for name in names)]
    parts += ["## Prove a policy or an engine right", inspect.getdoc(stopkit.testing) or ""]
    parts += [_reference(f"stopkit.testing.{name}") for name in stopkit.testing.__all__]
    return _page(parts)


def _since(column: FileColumn) -> str:
    return f" (since version {column.since})" if column.since > 1 else ""


def checks() -> str:
    """Every check of the conformance kit."""
    return _page(
        [
            "# Checks",
            "What the conformance kit checks. [Test a policy](../how-to/test-a-policy.md) shows how to run it.",
            *_groups("A policy", POLICY_CHECKS),
            *_groups("An engine", ENGINE_CHECKS),
        ]
    )


def _groups(title: str, found: Iterable[Check]) -> Iterator[str]:
    """The checks by the file that they are in, whose first line says what they have in common."""
    files: dict[str, list[Check]] = {}
    for check in found:
        files.setdefault(check.function.__module__, []).append(check)
    yield f"## {title}"
    for file, group in files.items():
        yield f"*{_first_line(sys.modules[file])}*"
        yield _table(("check", "what holds"), [(f"`{check.name}`", check.promise) for check in group])


PAGES: dict[str, Callable[[], str]] = {
    "reference/policies.md": policies,
    "reference/engines.md": engines,
    "reference/command-line.md": command_line,
    "reference/config.md": config,
    "reference/statistics.md": statistics,
    "reference/trace-format.md": trace_format,
    "reference/checks.md": checks,
    "reference/python.md": python,
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to the site."""
    for path, page in PAGES.items():
        files.append(File.generated(config, path, content=page()))
    return files


def _commands(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            yield from _commands(f"{name} {inner.name}", inner)


def _provenance(cls: type[Any]) -> str:
    lines = [("Rule", _code(cls.formula))] if getattr(cls, "formula", "") else []
    lines += [("Source", cls.source)] if getattr(cls, "source", "") else []
    lines += [("Class", f"`{cls.__module__}.{cls.__name__}`"), ("From", distribution_of(cls))]
    return "<br>\n".join(f"**{title}:** {text}" for title, text in lines)


def _prose(cls: type[Any]) -> str:
    """What the file of `cls` says of it. Markdown wants an empty line before a list, a docstring does not."""
    text = inspect.getdoc(sys.modules[cls.__module__]) or inspect.getdoc(cls) or ""
    return re.sub(r"(?m)^(?![*\s])(.+)\n(?=\* )", r"\1\n\n", text)


def _first_line(what: Any) -> str:
    return (inspect.getdoc(what) or "").partition("\n")[0]


def _fields(rows: Sequence[ConfigField]) -> str:
    return _table(
        FIELDS, [(f"`{row.name}`", row.type, _code(row.default), row.bounds, row.description) for row in rows]
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _reference(name: str) -> str:
    return f"::: {name}"


def _code(text: str) -> str:
    """`text` as code, whether or not it holds code itself."""
    return f"`` {text} ``" if "`" in text else f"`{text}`" if text else ""


def _anchor(kind: str) -> str:
    return kind.replace("_", "-")


def _page(parts: Iterable[str]) -> str:
    return "\n\n".join(parts) + "\n"
