"""What the pages show is true: Python runs, commands succeed, config files load, files are the tested ones.

A page's blocks run in order, in one namespace and one empty folder, as a reader would run them. A block with a title
is a file; it is written to that folder. A block that cannot run has `<!-- not executed: reason -->` before it.

`pip install -e .` makes the package in the current folder known, for this page, without installing it.
"""

import importlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import stopkit
from stopkit.cli import main
from stopkit.plugins import registry
from tests.docs.pages import PAGES, PLUGIN_SITE, ROOT, Fence, fences, name

TUTORIAL = ROOT / "docs" / "tutorial" / "first-policy.md"
TARGETS = re.compile(r"^([a-z-]+):", re.MULTILINE).findall((ROOT / "Makefile").read_text())
INSTALL = (
    ["pip", "install", "-e", "."],
    ["pip", "install", "-e", ".[test]"],
    ["pip", "install", "--no-deps", "-e", "."],
)


@pytest.fixture(autouse=True)
def an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in an empty folder from which modules can be imported, and forget them and all plug-ins afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for imported, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[imported]
    registry.cache_clear()


@pytest.mark.parametrize("page", [page for page in PAGES if any(fences(page))], ids=name)
def test_the_blocks_of_a_page_run(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page == TUTORIAL:  # the package that the page builds
        monkeypatch.syspath_prepend(PLUGIN_SITE)
        registry.cache_clear()
    namespace: dict[str, Any] = {"__name__": "page"}
    for fence in fences(page):
        if not fence.excuse:
            run(page, fence, namespace, monkeypatch)


def run(page: Path, fence: Fence, namespace: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do with a block what its language calls for."""
    if fence.title and (PLUGIN_SITE / fence.title).exists() and page == TUTORIAL:
        assert fence.body == (PLUGIN_SITE / fence.title).read_text(), f"{name(page)}:{fence.line} is not that file"
    elif fence.title and fence.language == "python":
        Path(fence.title).write_text(fence.body)
        importlib.invalidate_caches()
    elif fence.language == "python":
        exec(compile("\n" * (fence.line - 1) + fence.body, name(page), "exec"), namespace)
    elif fence.language == "toml":
        path = Path(fence.title or f"line-{fence.line}.toml")
        path.write_text(fence.body)
        stopkit.load_config(path)
    elif fence.language == "console":
        assert fence.commands, f"{name(page)}:{fence.line}: no line begins with $"
        for command in fence.commands:
            run_command(command, monkeypatch)
    elif fence.title:
        Path(fence.title).write_text(fence.body)
    else:
        assert fence.language in ("text", "json"), f"{name(page)}:{fence.line}: nobody runs {fence.language!r}"


def run_command(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a command that a page shows. Of those that would install, check that what they name exists."""
    program, *arguments = command
    if program == "stopkit":
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0, " ".join(command)
    elif program == "cd":
        monkeypatch.chdir(arguments[0])
    elif program in ("pytest", "python"):
        path = os.pathsep.join(entry for entry in sys.path if entry)
        start = [sys.executable] if program == "python" else [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*start, *arguments], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    elif program == "make":
        assert arguments, "make what?"
        assert set(arguments) <= set(TARGETS), f"the Makefile makes {TARGETS}"
    elif command in INSTALL:
        if Path("pyproject.toml").exists():  # the tutorial's package is on the path already
            install(Path.cwd(), monkeypatch)
    else:
        assert command == ["pip", "install", "-c", "constraints.txt", ".[all]"], f"no test knows {' '.join(command)!r}"


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an editable install does: the folder is on the path, with what its pyproject.toml says of its plug-ins."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = project["entry-points"]["stopkit"].items()
    (info / "entry_points.txt").write_text("\n".join(["[stopkit]", *(f"{point} = {to}" for point, to in points), ""]))
    monkeypatch.syspath_prepend(folder)
    registry.cache_clear()


def test_the_tutorial_shows_every_file_of_its_package() -> None:
    shown = {fence.title for fence in fences(TUTORIAL)}
    assert {"pyproject.toml", "stopkit_patience/__init__.py", "stopkit_patience/patience.py"} <= shown


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *(ROOT / "tests").rglob("*.md")], ids=name)
def test_links_between_files_lead_somewhere(page: Path) -> None:
    text = re.sub(r"<!--.*?-->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert target.startswith("https://") or (page.parent / target).exists(), target
