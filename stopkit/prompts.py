"""Prompts: read from a file, each with the place it came from, and cut into batches with a seed for every sequence."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from stopkit import datasets
from stopkit.errors import InputError, one_line
from stopkit.prompt_kinds import Prompt, as_prompts, is_chat
from stopkit.random import sequence_seeds


class WrittenPrompt(NamedTuple):
    """A prompt, and where the user wrote it."""

    prompt: Prompt
    where: str
    then: tuple[str, ...] = ()
    """What a user says after each answer; a prompt with that is a chat."""

    def said_by_user(self) -> "WrittenPrompt":
        """The same prompt as a chat: text is what a user says. Raises InputError for token ids."""
        if isinstance(self.prompt, str):
            return self._replace(prompt=[{"role": "user", "content": self.prompt}])
        if not is_chat(self.prompt):
            raise InputError(f"{self.where}: is token ids, and a chat is text or messages.")
        return self


@dataclass(frozen=True)
class Batch:
    """Prompts that run side by side. A sequence's seed depends on its number in the run, not on the batch size."""

    number: int
    prompts: tuple[WrittenPrompt, ...]
    seeds: list[int]

    @property
    def contents(self) -> list[Prompt]:
        """What to continue, without where it was written."""
        return [written.prompt for written in self.prompts]

    def place(self, error: InputError) -> InputError:
        """The same error, with `prompts[i]` replaced by where that prompt was written."""
        return InputError(re.sub(r"^prompts\[(\d+)\]", lambda match: self.prompts[int(match[1])].where, str(error)))


def batches(prompts: Sequence[WrittenPrompt], size: int, seed: int) -> list[Batch]:
    """`prompts` in order, `size` at a time."""
    starts = range(0, len(prompts), size)
    parts = [tuple(prompts[start : start + size]) for start in starts]
    return [
        Batch(number, part, sequence_seeds(seed, len(part), start))
        for number, (start, part) in enumerate(zip(starts, parts, strict=True))
    ]


def read_prompts(path: Path) -> list[WrittenPrompt]:
    """The prompts of a `.txt` file with one a line, of a `.jsonl` file with one of `FIELDS` a line, or of a data set.

    A data set is named as `stopkit.datasets` says. Raises InputError naming file and line.
    """
    if (records := datasets.records(str(path))) is not None:
        return [_conversation(*record) for record in records]
    if path.suffix not in LINE_READERS:
        raise InputError(f"{path}: a prompt file ends in {' or '.join(LINE_READERS)}.")
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: is not UTF-8 text; save the file as UTF-8.") from None
    if lines == [""]:
        raise InputError(f"{path}: is empty; write at least one prompt into it.")
    return list(_prompts(path, lines, LINE_READERS[path.suffix]))


def _prompts(path: Path, lines: Sequence[str], read: Callable[[str, str], Any]) -> Iterator[WrittenPrompt]:
    for number, line in enumerate(lines, start=1):
        where = f"{path}:{number}"
        content = read(line, where)
        if isinstance(content, tuple):
            yield _conversation(content, where)
            continue
        if not content:
            raise InputError(f"{where}: the prompt is empty; write some text to continue, or remove the line.")
        try:
            (prompt,) = as_prompts([content])
        except InputError as error:
            raise InputError(str(error).replace("prompts[0]", where, 1)) from None
        yield WrittenPrompt(prompt, where)


def _from_json(line: str, where: str) -> Any:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: is not JSON: {one_line(error)}.") from None
    named = [name for name in FIELDS if name in record] if isinstance(record, dict) else []
    if len(named) != 1 or not isinstance(record[named[0]], FIELDS[named[0]]):
        fault = f"has {' and '.join(named)}" if len(named) > 1 else "has no prompt"
        raise InputError(
            f'{where}: {fault}; write an object like {{"prompt": "def add("}}, or with a list of messages, token_ids '
            "or turns."
        )
    value = record[named[0]]
    return datasets.turns_of(value, where) if named == ["turns"] else value


def _conversation(turns: tuple[str, ...], where: str) -> WrittenPrompt:
    return WrittenPrompt([{"role": "user", "content": turns[0]}], where, turns[1:])


FIELDS: dict[str, type] = {"prompt": str, "messages": list, "token_ids": list, "turns": list}
"""What a line of a `.jsonl` file may hold: text, chat messages, token ids, or what a user says turn by turn."""
LINE_READERS: dict[str, Callable[[str, str], Any]] = {".jsonl": _from_json, ".txt": lambda line, where: line}
"""How a line of each kind of prompt file is read."""
