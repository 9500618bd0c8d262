"""The code fences of the documentation's pages, and the rules by which they are run."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PLUGIN_SITE = ROOT / "tests" / "plugin_site"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])

FENCE = re.compile(r"^```(?P<language>\w*)(?P<info>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
EXCUSE = re.compile(r"<!-- not executed: (?P<reason>\S.*?) -->\s*\Z", re.DOTALL)
TITLE = re.compile(r'title="(?P<title>[^"]+)"')


@dataclass(frozen=True)
class Fence:
    """One fenced block. A `title` is the name of the file that it shows; an `excuse` is why it is not run."""

    language: str
    title: str | None
    body: str
    line: int
    excuse: str | None

    @property
    def commands(self) -> list[list[str]]:
        """The words of every command in a console block; its other lines are output."""
        lines = [line[2:] for line in self.body.splitlines() if line.startswith("$ ")]
        return [shlex.split(line, comments=True) for line in lines]


def fences(page: Path) -> Iterator[Fence]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        excuse, title = EXCUSE.search(text, 0, found.start()), TITLE.search(found["info"])
        yield Fence(
            language=found["language"],
            title=title["title"] if title else None,
            body=found["body"],
            line=text.count("\n", 0, found.start()) + 2,
            excuse=excuse["reason"] if excuse else None,
        )


def name(page: Path) -> str:
    """What a page is called in test ids."""
    return page.relative_to(ROOT).as_posix()
