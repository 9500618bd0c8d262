"""The text of the bundled pair: Python's standard library, tests left out, whole modules held out.

Everything here is plain text work and imports no torch, so prompts are cheap to list.
"""

import ast
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stopkit.errors import InputError

EXCLUDE = (
    "**/test/**/*.py",
    "**/tests/**/*.py",
    "**/idle_test/**/*.py",
    "**/site-packages/**/*.py",
    "**/pydoc_data/**/*.py",
    "**/encodings/**/*.py",
    "**/_sysconfigdata*",
    "**/html/entities.py",
)
"""Tests, and files that are tables of data rather than code."""

HELD_OUT = (
    "**/json/*.py",
    "**/wsgiref/*.py",
    "bisect.py",
    "calendar.py",
    "colorsys.py",
    "configparser.py",
    "contextlib.py",
    "csv.py",
    "fnmatch.py",
    "fractions.py",
    "graphlib.py",
    "heapq.py",
    "queue.py",
    "reprlib.py",
    "sched.py",
    "shlex.py",
    "statistics.py",
    "textwrap.py",
    "zipapp.py",
)
"""Modules that no model of the pair was trained on, present in every Python since 3.11."""


@dataclass(frozen=True)
class Corpus:
    """Text of the modules to train on and of those held out, in a stable order."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]
    held_out_names: tuple[str, ...]


def standard_library() -> Path:
    """The folder of the running Python's standard library."""
    return Path(sysconfig.get_path("stdlib"))


def read_corpus(
    root: Path | None = None,
    include: Sequence[str] = ("**/*.py",),
    exclude: Sequence[str] = EXCLUDE,
    held_out: Sequence[str] = HELD_OUT,
) -> Corpus:
    """Read the files under `root` that match `include` and not `exclude`; globs are relative to `root`.

    Raises InputError when nothing is left to train on or nothing is held out.
    """
    root = root or standard_library()
    files = _matching(root, include) - _matching(root, exclude)
    apart = _matching(root, held_out) & files
    if not files - apart:
        raise InputError(
            f"{root}: no file matches {', '.join(include)}; give --corpus a folder and --include its globs"
        )
    if not apart:
        raise InputError(f"{root}: no file matches the held-out globs {', '.join(held_out)}; name some with --hold-out")
    return Corpus(
        train=tuple(_texts(sorted(files - apart))),
        held_out=tuple(_texts(sorted(apart))),
        held_out_names=tuple(path.relative_to(root).as_posix() for path in sorted(apart)),
    )


def read_further(root: Path | None, include: Sequence[str], held_out: Sequence[str] = HELD_OUT) -> tuple[str, ...]:
    """The files under `root` that match `include`, without those held out and without tests of these."""
    root = root or standard_library()
    apart = _matching(root, held_out)
    about = {f"test_{name}" for path in apart for name in (path.stem, path.parent.name)}
    rest = _matching(root, include) - apart
    return tuple(_texts(sorted(path for path in rest if about.isdisjoint(path.with_suffix("").parts))))


def _matching(root: Path, globs: Iterable[str]) -> set[Path]:
    return {path for glob in globs for path in root.glob(glob) if path.is_file()}


def _texts(paths: Iterable[Path]) -> Iterable[str]:
    for path in paths:
        try:
            yield path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a handful of fixtures in other encodings; the model learns UTF-8


def held_out_prompts(count: int, max_chars: int = 600, min_chars: int = 200) -> list[str]:
    """`count` unfinished functions from held-out modules of the running Python, spread over all of them.

    A prompt is the code that leads up to a function and the function's signature and first statement line, so
    that what follows is a body. The list depends on nothing but the installed standard library.
    """
    root = standard_library()
    per_module = [function_heads(path, max_chars, min_chars) for path in sorted(_matching(root, HELD_OUT))]
    deepest = max((len(heads) for heads in per_module), default=0)
    rounds = [heads[depth] for depth in range(deepest) for heads in per_module if depth < len(heads)]
    if len(rounds) < count:
        raise InputError(f"{root}: the held-out modules give {len(rounds)} prompts, {count} were asked for")
    return rounds[:count]


def function_heads(path: Path, max_chars: int = 600, min_chars: int = 200) -> list[str]:
    """The unfinished functions of one Python file, in order; what each is, `held_out_prompts` says."""
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines(keepends=True)
    heads = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.end_lineno and node.end_lineno - node.body[0].lineno >= 4:
            first_body_line = node.body[0].lineno
            text = "".join(lines[:first_body_line])
            start = text.rfind("\n", 0, len(text) - max_chars) + 1 if len(text) > max_chars else 0
            heads.append(text[start:])
    return [head for head in heads if len(head) >= min_chars]
