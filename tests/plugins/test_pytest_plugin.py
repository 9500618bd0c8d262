"""The pytest plug-in: light at start-up, fixtures that work, a marker that is known, one test for each check."""

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from stopkit import Engine
from stopkit.testing import TableModel, assert_distribution_preserved
from stopkit.testing.for_policies import POLICY_CHECKS


def run(folder: Path, *arguments: str, **files: str) -> str:
    """pytest on its own, in a folder with these files; what it printed."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(dedent(text))
    command = [sys.executable, "-m", "pytest", "--strict-markers", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


def test_start_up_imports_nothing_heavy(tmp_path: Path) -> None:
    output = run(
        tmp_path,
        test_light="""
            import sys

            def test_light(request):
                assert request.config.pluginmanager.hasplugin("stopkit")
                loaded = {"torch", "transformers", "stopkit_policies", "stopkit_engines", "stopkit.plugins"}
                assert not loaded & set(sys.modules)
        """,
    )
    assert "1 passed" in output, output


def test_importing_it_loads_no_torch() -> None:
    code = "import sys, stopkit.pytest_plugin; assert not {'torch', 'transformers'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_pair_can_be_enumerated(stopkit_pair: tuple[TableModel, TableModel]) -> None:
    target, draft = stopkit_pair
    assert not target.table.equal(draft.table)
    assert_distribution_preserved("static:length=2", target, draft, [0], 2)


def test_the_engine_repeats_itself(stopkit_engine: Engine, stopkit_pair: tuple[TableModel, TableModel]) -> None:
    once, again = (stopkit_engine.generate([[0], [1, 2]], "static", seed=3, max_new_tokens=9) for _ in range(2))
    assert once.tokens == again.tokens
    assert stopkit_engine.costs is not None
    other = type(stopkit_engine).from_models(*stopkit_pair)
    assert other.generate([[0], [1, 2]], "static", seed=3, max_new_tokens=9).tokens == once.tokens


def test_every_check_is_a_test_of_its_own(tmp_path: Path) -> None:
    output = run(
        tmp_path,
        "-v",
        "-rs",
        "-m",
        "stopkit",
        test_wings="""
            from stopkit import StoppingPolicy
            from stopkit.testing import checks, kit, policy_checks

            def flies(policy, draw):
                \"""It can fly.\"""
                raise checks.Skipped("it has no wings")

            def has_a_kind(policy, draw):
                \"""It has a kind.\"""
                assert policy.kind == "grounded"

            kit.POLICY_CHECKS = (checks.Check(flies), checks.Check(has_a_kind))

            class Grounded(StoppingPolicy):
                kind = "grounded"

            @policy_checks(Grounded)
            def test_grounded(check):
                check()

            def test_without_a_mark():
                pass
        """,
    )
    assert "test_grounded[flies] SKIPPED" in output, output
    assert "test_grounded[has_a_kind] PASSED" in output
    assert "it has no wings" in output
    assert "1 passed, 1 skipped, 1 deselected" in output


def test_the_names_of_the_checks_are_the_ids(tmp_path: Path) -> None:
    output = run(
        tmp_path,
        "--collect-only",
        "-q",
        test_static="""
            from stopkit import load_policy
            from stopkit.testing import policy_checks

            @policy_checks(load_policy("static"))
            def test_static(check):
                check()
        """,
    )
    found = [line.partition("::")[2] for line in output.splitlines() if "::" in line]
    assert found == [f"test_static[{check.name}]" for check in POLICY_CHECKS]


def test_the_marker_is_listed() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "pytest", "--markers"], capture_output=True, text=True, check=False
    ).stdout
    assert "@pytest.mark.stopkit: conformance checks; select with -m stopkit" in listed


@pytest.mark.stopkit
def test_the_marker_is_accepted() -> None:
    """The project's own settings are strict about markers."""
