"""`stopkit new-policy`: what it writes, and what it refuses. tests/packaging installs and runs what it writes."""

import ast
import tomllib
from pathlib import Path

import pytest

from stopkit import StoppingPolicy, __version__
from stopkit.cli.new_policy import FILES, NEXT
from tests.cli.conftest import Run

ROOT = Path(__file__).parents[2]


def written(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_whole_package(run: Run, tmp_path: Path) -> None:
    done = run("new-policy", "few_choices", "--out", tmp_path)
    assert done.exit_code == 0, done.stderr
    folder = tmp_path / "stopkit-few-choices"
    expected = {
        "pyproject.toml",
        "README.md",
        ".gitignore",
        "stopkit_few_choices/__init__.py",
        "stopkit_few_choices/policy.py",
        "tests/test_few_choices.py",
    }
    assert written(folder) == expected
    for path in expected:
        assert str(folder / path) in done.stdout
    readme = (folder / "README.md").read_text()
    for command in NEXT:
        assert f"  {command.format(kind='few_choices')}\n" in done.stdout
        assert f"\n{command.format(kind='few_choices')}\n" in readme
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == "stopkit-few-choices"
    assert project["dependencies"] == [f"stopkit>={__version__}"]
    assert project["entry-points"] == {"stopkit": {"few_choices": "stopkit_few_choices"}}


def test_its_policy_is_short_and_its_test_shorter(run: Run, tmp_path: Path) -> None:
    run("new-policy", "few_choices", "--out", tmp_path)
    folder = tmp_path / "stopkit-few-choices"
    source = (folder / "stopkit_few_choices" / "policy.py").read_text()
    (block,) = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    assert len(block.body) <= 10
    (test,) = ast.parse((folder / "tests" / "test_few_choices.py").read_text()).body[-1:]
    assert isinstance(test, ast.FunctionDef)
    assert len(test.body) == 1


@pytest.mark.parametrize(
    ("kind", "name"),
    [("none", "NonePolicy"), ("tensor", "TensorPolicy"), ("few_choices", "FewChoices"), ("x2_y", "X2Y")],
)
def test_any_kind_gives_a_class(run: Run, tmp_path: Path, kind: str, name: str) -> None:
    assert run("new-policy", kind, "--out", tmp_path).exit_code == 0
    namespace: dict[str, type[StoppingPolicy]] = {}
    exec((tmp_path / f"stopkit-{kind.replace('_', '-')}" / f"stopkit_{kind}" / "policy.py").read_text(), namespace)
    assert namespace[name]().kind == kind


def test_the_current_folder_is_the_default(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("new-policy", "mine")
    assert done.exit_code == 0, done.stderr
    assert "  cd stopkit-mine\n" in done.stdout
    assert (tmp_path / "stopkit-mine" / "pyproject.toml").is_file()


def test_every_template_is_written() -> None:
    assert {path.name for path in (ROOT / "stopkit" / "template").iterdir()} == set(FILES)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("Few-Choices", ("'Few-Choices' cannot be a kind", "lower case letters", "such as few_choices")),
        ("FewChoices", ("such as few_choices",)),
        ("3rules", ("a letter first", "such as rules")),
        ("rule_", ("such as rule.",)),
        ("../rule", ("cannot be a kind", "such as rule.")),
        ("règle", ("between them.",)),
        ("", ("'' cannot be a kind",)),
        ("adaedl", (f"'adaedl' is offered by stopkit {__version__}", "choose another")),
        ("autoregressive", ("'autoregressive' is another name for static",)),
        ("policies", ("stopkit_policies is installed already",)),
    ],
)
def test_names_that_are_refused(run: Run, tmp_path: Path, name: str, parts: tuple[str, ...]) -> None:
    done = run("new-policy", "--out", tmp_path, "--", name)
    assert done.exit_code == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: NAME: ")
    for part in parts:
        assert part in line
    assert not written(tmp_path)


def test_nothing_is_overwritten(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "stopkit-mine"
    folder.mkdir()
    done = run("new-policy", "mine", "--out", tmp_path)
    assert done.exit_code == 2
    assert done.stderr == f"error: {folder}: exists already; remove it, or name another folder with --out.\n"
    assert not written(tmp_path)


def test_a_folder_that_there_is_not(run: Run, tmp_path: Path) -> None:
    done = run("new-policy", "mine", "--out", tmp_path / "nowhere")
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert "--out" in line
    assert "does not exist" in line
