"""What the pages show is true: Python runs, commands succeed, config files load, files are the tested ones.

A page's blocks run in order, in one namespace and one empty folder, as a reader would run them. A block with a title
is a file; it is written to that folder. A block that cannot run has `<!-- not executed: reason -->` before it.
"""

import re
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


@pytest.fixture(autouse=True)
def an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in an empty folder, and look for plug-ins anew afterwards."""
    monkeypatch.chdir(tmp_path)
    yield
    registry.cache_clear()


@pytest.mark.parametrize("page", [page for page in PAGES if any(fences(page))], ids=name)
def test_the_blocks_of_a_page_run(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page == TUTORIAL:  # the package that the page builds
        monkeypatch.syspath_prepend(PLUGIN_SITE)
        registry.cache_clear()
    namespace: dict[str, Any] = {"__name__": "page"}
    for fence in fences(page):
        if not fence.excuse:
            run(page, fence, namespace)


def run(page: Path, fence: Fence, namespace: dict[str, Any]) -> None:
    """Do with a block what its language calls for."""
    if fence.title and (PLUGIN_SITE / fence.title).exists() and page == TUTORIAL:
        assert fence.body == (PLUGIN_SITE / fence.title).read_text(), f"{name(page)}:{fence.line} is not that file"
    elif fence.language == "python":
        exec(compile("\n" * (fence.line - 1) + fence.body, name(page), "exec"), namespace)
    elif fence.language == "toml":
        path = Path(fence.title or f"line-{fence.line}.toml")
        path.write_text(fence.body)
        stopkit.load_config(path)
    elif fence.language == "console":
        assert fence.commands, f"{name(page)}:{fence.line}: no line begins with $"
        for command in fence.commands:
            run_command(command)
    elif fence.title:
        Path(fence.title).write_text(fence.body)
    else:
        assert fence.language in ("text", "json"), f"{name(page)}:{fence.line}: nobody runs {fence.language!r}"


def run_command(command: list[str]) -> None:
    """Run a stopkit command; of others, check that what they name exists."""
    program, *arguments = command
    if program == "stopkit":
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0, " ".join(command)
    elif program == "make":
        assert arguments, "make what?"
        assert set(arguments) <= set(TARGETS), f"the Makefile makes {TARGETS}"
    else:
        assert command in (
            ["pip", "install", "-c", "constraints.txt", "."],
            ["pip", "install", "--no-deps", "-e", "."],
        ), f"no test knows {' '.join(command)!r}"


def test_the_tutorial_shows_every_file_of_its_package() -> None:
    shown = {fence.title for fence in fences(TUTORIAL)}
    assert {"pyproject.toml", "stopkit_patience/__init__.py", "stopkit_patience/patience.py"} <= shown


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *(ROOT / "tests").rglob("*.md")], ids=name)
def test_links_between_files_lead_somewhere(page: Path) -> None:
    text = re.sub(r"<!--.*?-->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert target.startswith("https://") or (page.parent / target).exists(), target
