"""Published data sets: found where the user has them, chosen by task, turn by turn."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from stopkit import InputError
from stopkit.prompts import read_prompts

SPEC = [
    {"question_id": 81, "category": "writing", "turns": ["Write a haiku.", "Another one."]},
    {"question_id": 121, "category": "coding", "turns": ["Sort a list."]},
    {"question_id": 161, "category": "translation", "turns": ["Translate: Guten Tag."]},
]
SPEED = [{"question_id": "a", "category": "Low Entropy", "sub_category": "x", "turns": ["Count."], "multiturn": False}]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "spec_bench").mkdir()
    lines(tmp_path / "spec_bench" / "question.jsonl", SPEC)
    pyarrow.parquet.write_table(pa.Table.from_pylist(SPEED), tmp_path / "throughput_1k.parquet")
    return tmp_path


def lines(file: Path, records: list[Any]) -> None:
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("coding", ["Sort a list."]),
        ("mt-bench", ["Write a haiku.", "Sort a list."]),
        ("MT_bench", ["Write a haiku.", "Sort a list."]),
        ("all", ["Write a haiku.", "Sort a list.", "Translate: Guten Tag."]),
    ],
)
def test_a_task_is_a_category_or_a_group(place: Path, task: str, said: list[str]) -> None:
    prompts = read_prompts(Path(f"spec-bench:{task}@{place}"))
    assert [prompt.prompt for prompt in prompts] == [[{"role": "user", "content": text}] for text in said]


def test_later_turns_wait_for_their_answers(place: Path) -> None:
    (prompt,) = read_prompts(Path(f"spec-bench:writing@{place / 'spec_bench' / 'question.jsonl'}"))
    assert prompt.then == ("Another one.",)
    assert prompt.where == f"{place / 'spec_bench' / 'question.jsonl'}:1"


def test_parquet_and_the_environment(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOPKIT_DATA", str(place / "throughput_1k.parquet"))
    assert [prompt.then for prompt in read_prompts(Path("speed-bench:low-entropy"))] == [()]


def test_turns_in_a_file_of_ones_own(tmp_path: Path) -> None:
    lines(tmp_path / "mine.jsonl", [{"turns": ["a", "b"]}, {"prompt": "c"}])
    talk, text = read_prompts(tmp_path / "mine.jsonl")
    assert (talk.then, text.then, text.prompt) == (("b",), (), "c")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (
            "spec-bench:codng@{place}",
            "no prompt is of the task 'codng'. Did you mean 'coding'? There is: all, coding, ",
        ),
        ("spek-bench:coding@{place}", "no data set is called 'spek-bench'. Did you mean 'spec-bench'? There is: spec-"),
        ("spec-bench:coding", "says no place; get data/spec_bench of github.com/hemingkx/Spec-Bench, and write spec-b"),
        ("spec-bench:coding@{place}/none", "none does not exist; get "),
        ("speed-bench:qa@{place}/empty", "empty holds no *.jsonl or *.parquet; get "),
    ],
)
def test_what_is_wrong_is_said(place: Path, reference: str, message: str) -> None:
    (place / "empty").mkdir()
    with pytest.raises(InputError) as caught:
        read_prompts(Path(reference.format(place=place)))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"turns": ["a"]}, "question.jsonl:1: has no category"),
        ({"category": "qa", "turns": []}, "question.jsonl:1: turns is no list of texts"),
        ({"category": "qa", "turns": "a"}, "question.jsonl:1: turns is no list of texts"),
        (["a"], "question.jsonl:1: has no category"),
    ],
)
def test_a_record_of_another_form_has_a_line(tmp_path: Path, record: Any, message: str) -> None:
    lines(tmp_path / "question.jsonl", [record])
    with pytest.raises(InputError, match=message):
        read_prompts(Path(f"spec-bench:qa@{tmp_path}"))
