"""The generated reference is complete, and the site builds without a warning."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest

import stopkit
from stopkit.cli import main
from stopkit.generation import GenerationOptions
from stopkit.kinds import distribution_of
from stopkit.plugins import registry
from stopkit.testing.for_engines import ENGINE_CHECKS
from stopkit.testing.for_policies import POLICY_CHECKS
from stopkit.trace.format import COLUMNS, OPTIONAL, Metadata, Timings
from tests.docs.pages import ROOT

pytest.importorskip("mkdocs", reason="needs the docs extra")


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_policy_has_its_fields_listed(hooks: ModuleType) -> None:
    page = hooks.policies()
    for kind, cls in registry().policies.items():
        section = page.partition(f"## {kind} {{#")[2].partition("\n## ")[0]
        assert cls.formula in section
        for field in cls.model_fields:
            assert f"| `{field}` |" in section


def test_the_readme_lists_the_built_in_policies() -> None:
    _, _, policies = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Policies\n")
    listed = re.findall(r"^\| `(\w+)` \|", policies, re.MULTILINE)
    ours = f"stopkit {stopkit.__version__}"
    assert listed == [kind for kind, cls in registry().policies.items() if distribution_of(cls) == ours]


def test_every_engine_has_its_fields_listed(hooks: ModuleType) -> None:
    page = hooks.engines()
    for kind, cls in registry().engines.items():
        assert f"## {kind} {{#" in page
        for field in cls.model_fields:
            assert f"| `{field}` |" in page


def test_every_command_has_its_help_text(hooks: ModuleType) -> None:
    page = hooks.command_line()
    for name, command in main.commands.items():
        assert f"## stopkit {name}\n" in page
        assert str(command.help).partition("\n")[0] in page
        if isinstance(command, click.Group):
            assert all(f"## stopkit {name} {inner}\n" in page for inner in command.commands)


def test_every_check_is_listed_with_what_it_promises(hooks: ModuleType) -> None:
    page = hooks.checks()
    for check in (*POLICY_CHECKS, *ENGINE_CHECKS):
        assert check.promise
        assert f"| `{check.name}` | {check.promise} |" in page


def test_every_generation_option_is_listed(hooks: ModuleType) -> None:
    page = hooks.config()
    assert all(f"| `{field}` |" in page for field in GenerationOptions.model_fields)


def test_every_column_of_a_trace_is_listed(hooks: ModuleType) -> None:
    page = hooks.trace_format()
    for column in (*COLUMNS, *OPTIONAL):
        assert f"| `{column.name}` | {column.type} | {column.meaning}" in page
    assert all(f"| `{field}` |" in page for field in (*Metadata.model_fields, *Timings.model_fields))


def test_every_public_name_is_documented(hooks: ModuleType) -> None:
    named = [name for names in hooks.PYTHON.values() for name in names]
    assert sorted(named) == sorted(stopkit.__all__)
    assert all(getattr(stopkit, name).__doc__ for name in named if isinstance(getattr(stopkit, name), type))


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    assert (tmp_path / "site" / "reference" / "policies" / "index.html").is_file()
    assert not list((tmp_path / "site").rglob("*.py"))
