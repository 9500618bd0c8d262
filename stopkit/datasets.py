"""Published data sets of prompts, from a copy that the user has: `spec-bench:coding@FOLDER`.

Spec-Bench (Xia et al. 2024, arXiv 2401.07851) is one file, question.jsonl; SPEED-Bench (arXiv 2604.09557) a file for
each of its splits, as .jsonl or .parquet. Both have a record a prompt, with its `category` and its `turns`, what a user
says one after another.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stopkit.errors import InputError, one_line
from stopkit.validation import did_you_mean

PLACE = "STOPKIT_DATA"
"""The environment variable that names the folder of data sets, for references without one."""
ALL = "all"
REFERENCE = re.compile(r"(?P<name>[a-z][a-z-]+-bench):(?P<task>[^@]*)(@(?P<place>.+))?", re.DOTALL)


class DataSet(NamedTuple):
    """Where a data set is from, which files it is, and what several categories together are called."""

    source: str
    files: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]] = {}


DATASETS = {
    "spec-bench": DataSet(
        "data/spec_bench of github.com/hemingkx/Spec-Bench",
        ("question.jsonl",),
        {
            "mt_bench": (
                *("writing", "roleplay", "reasoning", "math"),
                *("coding", "extraction", "stem", "humanities"),
            )
        },
    ),
    "speed-bench": DataSet(
        "the data set nvidia/SPEED-Bench of the Hugging Face hub",
        ("*.jsonl", "*.parquet"),
    ),
}
"""By the name that a reference begins with."""


class Record(NamedTuple):
    """What a user says, turn by turn, and where it is written."""

    turns: tuple[str, ...]
    where: str


def records(reference: str) -> list[Record] | None:
    """The records that `NAME:TASK[@FILE or FOLDER]` stands for; None for what is no such reference.

    TASK is a category, a group of them, or `all`. Raises InputError if there is no copy, for an unknown name or task,
    and for a record that is not of the form, with its place.
    """
    found = REFERENCE.fullmatch(reference)
    if found is None:
        return None
    name, task = found["name"], found["task"].replace("-", "_").casefold()
    if name not in DATASETS:
        raise InputError(f"{reference}: no data set is called {name!r}.{did_you_mean(name, DATASETS)}")
    files = _files(reference, DATASETS[name], found["place"])
    several = [(category, record) for file in files for category, record in _read(file)]
    wanted = DATASETS[name].groups.get(task, (task,))
    chosen = [record for category, record in several if task == ALL or category in wanted]
    if not chosen:
        known = {*DATASETS[name].groups, ALL, *(category for category, _ in several)}
        raise InputError(f"{reference}: no prompt is of the task {found['task']!r}.{did_you_mean(task, known)}")
    return chosen


def turns_of(value: Any, where: str) -> tuple[str, ...]:
    """A list of what a user says, one after another. Raises InputError for anything else."""
    if not isinstance(value, list) or not value or not all(isinstance(turn, str) and turn for turn in value):
        raise InputError(f"{where}: turns is no list of texts; write what the user says, one after another.")
    return tuple(value)


def _files(reference: str, dataset: DataSet, given: str | None) -> list[Path]:
    place = given or os.environ.get(PLACE)
    if not place:
        raise InputError(
            f"{reference}: says no place; get {dataset.source}, and write {reference}@FOLDER, or set {PLACE} to it."
        )
    root = Path(place).expanduser()
    files = [root] if root.is_file() else sorted(file for name in dataset.files for file in root.rglob(name))
    if not files:
        what = f"holds no {' or '.join(dataset.files)}" if root.is_dir() else "does not exist"
        raise InputError(f"{reference}: {root} {what}; get {dataset.source}.")
    return files


def _read(file: Path) -> Iterator[tuple[str, Record]]:
    """Every record with its category."""
    for number, record in enumerate(_parquet(file) if file.suffix == ".parquet" else _lines(file), start=1):
        where = f"{file}:{number}"
        if not isinstance(record, dict) or not isinstance(category := record.get("category"), str):
            raise InputError(f"{where}: has no category; it is no record of a data set.")
        yield (
            category.replace("-", "_").replace(" ", "_").casefold(),
            Record(turns_of(record.get("turns"), where), where),
        )


def _lines(file: Path) -> Iterator[Any]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read: {one_line(error)}.") from None
    for number, line in enumerate(lines, start=1):
        try:
            yield json.loads(line)
        except ValueError as error:
            raise InputError(f"{file}:{number}: is not JSON: {one_line(error)}.") from None


def _parquet(file: Path) -> Iterator[Any]:
    import pyarrow.parquet as parquet

    try:
        yield from parquet.read_table(file, columns=["category", "turns"]).to_pylist()
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read as Parquet: {one_line(error)}.") from None
