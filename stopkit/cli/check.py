"""`stopkit check`: does a policy or an engine keep every promise that is asked of it?"""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stopkit.cli.app import Command
from stopkit.cli.options import json_option, kinds, quiet
from stopkit.cli.outputs import save

if TYPE_CHECKING:
    from stopkit.testing.checks import Check, Result


@click.command(cls=Command)
@click.argument("kind", shell_complete=kinds("policies"))
@click.option("--target", metavar="MODEL", help="Try this model in the engine, instead of checking the engine.")
@click.option("--draft", metavar="DRAFT", help="Try it with this draft, a model or early_exit:layers=N.")
@click.option("--examples", type=click.IntRange(min=1), metavar="N", help="Most examples of a check; 40 if not given.")
@json_option
def check(kind: str, target: str | None, draft: str | None, examples: int | None, json_file: str | None) -> None:
    """Check that a policy or an engine keeps its promises.

    KIND is a policy (KIND, KIND:field=value, a config file or FILE.py) or the kind of an engine. A check tries
    examples, the same ones every time; if it fails, the smallest that makes it fail is shown. If all pass, that is one
    line. An engine is given small models; with --target it is tried whether it can run your own ones exactly.
    """
    from rich.live import Live

    from stopkit.conditions import conditions
    from stopkit.errors import StopkitError
    from stopkit.tables import Column, console, show_table, table, text, write_json
    from stopkit.testing.checks import EXAMPLES
    from stopkit.testing.kit import results

    quiet()
    if target or draft:
        show_table(_tried(kind, target, draft), (text("model", "model"), text("runs as", "way")), json_file)
        return
    subject, checks = _subject(kind)
    most = examples or EXAMPLES
    done: list[Result] = []
    columns = (
        *(text(name, name) for name in ("check", "promise", "verdict")),
        Column("reason", "reason", lambda row: row.get("reason", "").partition("\n")[0], right=False),
    )
    try:
        with Live(console=console(stderr=True), transient=True) as live:
            for result in results(checks, subject, {}, most):
                done.append(result)
                live.update(table(_rows(checks, done), columns))
    finally:
        passed = [result for result in done if result.verdict == "passed"]
        if done and json_file != "-":
            told = f"{kind}: all {len(done)} checks passed."
            console().print(told if len(passed) == len(checks) else table(_rows(checks, done), columns))
        if done:
            rows = _rows(checks[: len(done)], done)
            save((json_file, lambda place: write_json(place, conditions(subject=kind, examples=most), rows)))
    failed = [result for result in done if not result.good]
    if json_file != "-":
        for result in failed:
            console().print(f"\n{result}", soft_wrap=True)
    if failed:
        raise StopkitError(f"{kind}: {len(failed)} of {len(done)} checks failed.")


def _tried(kind: str, target: str | None, draft: str | None) -> list[dict[str, str]]:
    """How an engine of this kind runs the models."""
    from stopkit.config import load_engine

    names = {"target": target, "draft": draft}
    engine = load_engine({"kind": kind} | {name: reference for name, reference in names.items() if reference})
    return [
        {"model": f"{field}: {getattr(engine, field)}", "way": way} for field, way in engine.trial_of_models().items()
    ]


def _subject(kind: str) -> "tuple[Any, Sequence[Check]]":
    """The policy or engine class that `kind` names, and what is asked of it."""
    from stopkit.errors import InputError
    from stopkit.plugins import registry
    from stopkit.rule_file import or_a_file, written_policy
    from stopkit.spec import ALIASES, PYTHON_FILE, READERS, parse_spec
    from stopkit.testing.for_engines import ENGINE_CHECKS
    from stopkit.testing.for_policies import POLICY_CHECKS
    from stopkit.validation import did_you_mean

    engines, policies = registry().engines, [*registry().policies, *ALIASES]
    if kind in engines:
        return engines[kind], ENGINE_CHECKS
    if Path(kind).suffix not in READERS and not PYTHON_FILE.fullmatch(kind):
        name = parse_spec(kind, "KIND")["kind"]
        if name in engines:
            raise InputError(f"KIND: an engine is checked by its kind alone; write {name}.")
        if name not in policies:
            guess = did_you_mean(name, [*policies, *engines])
            raise InputError(f"KIND: there is no policy or engine {name!r}.{guess}{or_a_file(kind)}")
    return written_policy(kind), POLICY_CHECKS


def _rows(checks: "Sequence[Check]", done: "Sequence[Result]") -> list[dict[str, Any]]:
    """Every check with what is known of it."""
    about = [{"check": check.name, "promise": check.promise} for check in checks]
    return [row | (asdict(result) if result else {}) for row, result in zip_longest(about, done)]
