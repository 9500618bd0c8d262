"""A recording ends in a whole trace, however often it was cut off, and one recording is not taken for another."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from stopkit import Engine, GenerationError, InputError
from stopkit.files import UNFINISHED
from stopkit.plugins import registry
from stopkit.trace.files import parts_folder, read_metadata, recorded_sequences, trace_files
from stopkit.trace.recorder import Rollouts
from stopkit.trace.shards import Shard
from stopkit.trace.trace import Trace
from tests.engines.models import noisy_copy, random_model
from tests.trace.conftest import PROMPTS, Record, assert_same_rows


def stop_after(count: int, error: BaseException) -> Callable[[Rollouts], None]:
    seen: list[Rollouts] = []

    def tick(rollouts: Rollouts) -> None:
        seen.append(rollouts)
        if len(seen) == count:
            raise error

    return tick


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("full")], ids=repr)
def test_an_interrupted_recording_is_a_shorter_trace_and_is_completed(
    recording: Record, tmp_path: Path, count: int, error: BaseException
) -> None:
    whole, cut = tmp_path / "whole.parquet", tmp_path / "cut.parquet"
    recording().run(whole)
    with pytest.raises(type(error)):
        recording().run(cut, tick=stop_after(count, error))
    assert Trace.open(cut).sequences == tuple(range(count))
    begun = read_metadata(cut)
    recorded: list[int] = []
    recording().run(cut, resume=True, tick=lambda rollouts: recorded.append(rollouts.sequence))
    assert recorded == list(range(count, 5))
    assert_same_rows(cut, whole)
    assert read_metadata(cut) == begun
    assert [path.name for path in tmp_path.iterdir() if "cut" in path.name] == ["cut.parquet"]


def test_a_target_that_fails_leaves_what_was_recorded(tmp_path: Path, recording: Record) -> None:
    target = random_model()
    with torch.no_grad():
        target.get_input_embeddings().weight[39] = torch.nan
    broken = registry().engine("eager").from_models(target, noisy_copy(random_model()))
    prompts = [[3, 1], [2], [39]]
    with pytest.raises(GenerationError):
        recording(engine=broken, prompts=prompts, batch_size=1, top_k=1).run(tmp_path / "t.parquet")
    assert Trace.open(tmp_path / "t.parquet").sequences == (0, 1)


KILLED = """
import os, signal, sys
from pathlib import Path
from stopkit.generation import GenerationOptions
from stopkit.plugins import registry
from stopkit.trace.recording import Recording
from tests.engines.models import noisy_copy, random_model
from tests.trace.conftest import PROMPTS

def tick(rollouts):
    if rollouts.sequence == 2:
        os.kill(os.getpid(), signal.SIGKILL)

target = random_model()
engine = registry().engine("eager").from_models(target, noisy_copy(target))
options = GenerationOptions(max_new_tokens=6)
Recording(engine, PROMPTS, options, max_draft=4, batch_size=2, rollouts=3).run(Path(sys.argv[1]), tick=tick)
"""


def test_a_killed_recording_is_a_shorter_trace_and_is_completed(recording: Record, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], env=environment, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not path.exists()
    assert Trace.open(path).sequences == (0, 1, 2)
    recording().run(path, resume=True)
    recording().run(tmp_path / "whole.parquet")
    assert_same_rows(path, tmp_path / "whole.parquet")
    assert not parts_folder(path).exists()


def test_killed_after_joining_and_before_the_parts_are_gone(
    recording: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.parquet"
    with monkeypatch.context() as kept:
        kept.setattr("stopkit.trace.writing.shutil", SimpleNamespace(rmtree=lambda folder: None))
        recording().run(path)
    assert parts_folder(path).exists()
    assert Trace.open(path).sequences == (0, 1, 2, 3, 4)
    recording().run(path, resume=True)
    assert not parts_folder(path).exists()
    assert trace_files(path) == [path]


def half_of(path: Path) -> None:
    """What is left of a process that was killed while it wrote there."""
    folder = path.with_name(f"{UNFINISHED}killed")
    folder.mkdir()
    (folder / path.name).write_bytes(b"half")


def test_half_a_file_is_never_seen(recording: Record, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    with pytest.raises(KeyboardInterrupt):
        recording().run(path, tick=stop_after(2, KeyboardInterrupt()))
    parts_folder(path).mkdir()
    half_of(parts_folder(path) / "00000002.parquet")
    assert Trace.open(path).sequences == (0, 1)
    recording().run(path, resume=True)
    assert Trace.open(path).sequences == (0, 1, 2, 3, 4)
    assert [file.name for file in tmp_path.iterdir()] == ["t.parquet"]


def test_killed_before_the_first_sequence_was_whole(recording: Record, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    parts_folder(path).mkdir()
    half_of(parts_folder(path) / "00000000.parquet")
    with pytest.raises(InputError, match=r"^prompts\[1\]: has 200 tokens"):  # what stopped it is what is told
        recording(prompts=[[1], [1] * 200]).run(path)
    recording().run(path)
    assert Trace.open(path).sequences == (0, 1, 2, 3, 4)


def test_a_folder_of_somebody_elses_is_no_place_for_parts(recording: Record, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    parts_folder(path).mkdir()
    mine = parts_folder(path) / "mine.parquet"
    mine.write_bytes(b"precious")
    with pytest.raises(InputError, match=r"t\.parquet\.parts: holds something else"):
        recording().run(path)
    assert mine.read_bytes() == b"precious"


def test_what_is_complete_is_left_as_it_is(recording: Record, tmp_path: Path) -> None:
    path, begun = tmp_path / "t.parquet", []
    recording().run(path)
    before = path.read_bytes()
    recording().run(path, resume=True, begin=begun.append)
    assert (begun, path.read_bytes()) == ([0], before)


def test_what_exists_is_not_overwritten(recording: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.parquet"
    recording().run(path)
    monkeypatch.setattr(type(recording().engine), "identity", lambda self: pytest.fail("models were loaded"))
    with pytest.raises(InputError, match=r"t\.parquet: exists; --resume goes on with it"):
        recording().run(path)
    with pytest.raises(InputError, match="is a folder; name the file to write"):
        recording().run(tmp_path)


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ({"seed": 1}, "its seed is 0, not 1"),
        ({"temperature": 0.5}, r"its sampling\.temperature is 1\.0, not 0\.5"),
        ({"max_new_tokens": 7}, "its max_new_tokens is 6, not 7"),
        ({"max_draft": 5}, "its max_draft is 4, not 5"),
        ({"prompts": [*PROMPTS[:-1], [1, 2]]}, "its prompts is .*, not"),
        ({"top_k_logits": 2}, "its top_k_logits is 0, not 2"),
        ({"hidden_state": True}, "its hidden_state is False, not True"),
    ],
    ids=str,
)
def test_another_recording_is_not_resumed(
    recording: Record, tmp_path: Path, changed: dict[str, Any], difference: str
) -> None:
    path = tmp_path / "t.parquet"
    recording().run(path)
    with pytest.raises(InputError, match=rf"t\.parquet: is another recording: {difference}"):
        recording(**changed).run(path, resume=True)


def test_other_models_are_another_recording(recording: Record, engine: Engine, tmp_path: Path) -> None:
    path, target = tmp_path / "t.parquet", random_model()
    recording().run(path)
    other = type(engine).from_models(target, noisy_copy(target, seed=2))
    with pytest.raises(InputError, match=r"is another recording: its draft\.hash is"):
        recording(engine=other).run(path, resume=True)


@pytest.mark.parametrize("changed", [{"batch_size": 1}, {"batch_size": 5}, {"rollouts": 1}, {"rollouts": 64}], ids=str)
def test_it_does_not_depend_on_what_runs_side_by_side(
    recording: Record, tmp_path: Path, changed: dict[str, Any]
) -> None:
    recording().run(tmp_path / "a.parquet")
    recording(**changed).run(tmp_path / "b.parquet")
    alike(Trace.open(tmp_path / "a.parquet"), Trace.open(tmp_path / "b.parquet"))


def alike(one: Trace, other: Trace) -> None:
    """The same tokens, and numbers that differ by rounding at most."""
    for name in ("first", "output", "limit", "drafted", "run"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    for name, column in one.columns.items():
        torch.testing.assert_close(column, other.columns[name], atol=1e-4, rtol=1e-4, msg=name)


def test_a_folder_of_shards_is_the_trace(recording: Record, tmp_path: Path) -> None:
    recording().run(tmp_path / "whole.parquet")
    shards = tmp_path / "shards"
    shards.mkdir()
    for number in (1, 2, 3):
        path = shards / f"{number}.parquet"
        recording(shard=Shard(number, 3)).run(path)
        assert recorded_sequences(path) == set(range(number - 1, 5, 3))
    alike(Trace.open(shards), Trace.open(tmp_path / "whole.parquet"))
    with pytest.raises(InputError, match=r"1\.parquet: is another shard: 1/3, not 2/3"):
        recording(shard=Shard(2, 3)).run(shards / "1.parquet", resume=True)


def test_an_unfinished_shard_is_part_of_the_trace(recording: Record, tmp_path: Path) -> None:
    recording(shard=Shard(1, 2)).run(tmp_path / "1.parquet")
    recording(shard=Shard(2, 2)).run(tmp_path / "2.parquet")
    (parts := parts_folder(tmp_path / "2.parquet")).mkdir()
    (tmp_path / "2.parquet").rename(parts / "00000001.parquet")
    assert Trace.open(tmp_path).sequences == (0, 1, 2, 3, 4)


def test_a_shard_without_a_sequence(recording: Record, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="shard: 6/6 of 5 prompts has none"):
        recording(shard=Shard(6, 6)).run(tmp_path / "t.parquet")


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/", "a/b", "1/2/3", "-1/2"])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(InputError, match=r"--shard: .* is no shard; write i/n"):
        Shard.parse(text, "--shard")


def test_a_wrong_prompt_is_named_by_its_number_among_all(recording: Record, tmp_path: Path) -> None:
    prompts = [*PROMPTS[:3], [1] * 200]
    with pytest.raises(InputError, match=r"^prompts\[3\]: has 200 tokens"):
        recording(prompts=prompts, shard=Shard(2, 2)).run(tmp_path / "t.parquet")


def test_stop_strings_are_refused(recording: Record, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"generation\.stop: a recording has no stop strings"):
        recording(stop=("x",)).run(tmp_path / "t.parquet")


def test_an_engine_that_cannot_record(recording: Record, engine: Engine, tmp_path: Path) -> None:
    class Other(Engine):
        kind = "other"

        @classmethod
        def from_models(cls, *models: Any, **fields: Any) -> Any:
            return cls()

    with pytest.raises(InputError, match=r"engine\.kind: other cannot record; eager can"):
        recording(engine=Other()).run(tmp_path / "t.parquet")


def test_metadata(recording: Record, tmp_path: Path) -> None:
    recording(temperature=0.5, seed=3).run(tmp_path / "t.parquet")
    found = read_metadata(tmp_path / "t.parquet")
    assert (found.seed, found.sampling.temperature, found.sequences, found.shard) == (3, 0.5, 5, "1/1")
    assert found.target["hash"] != found.draft["hash"]
    assert found.timings is not None
    assert len(found.timings.verify) == found.max_draft + 1
    assert {"hardware", "versions", "config"} <= set(found.conditions)


def test_memory_does_not_hold_a_recording(recording: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sequence is on disk before the next is begun, and joining holds a row group at a time."""
    import pyarrow.parquet as pq

    path = tmp_path / "t.parquet"
    on_disk: list[int] = []
    monkeypatch.setattr("stopkit.trace.writing.GROUP_ROWS", 20)
    recording().run(path, tick=lambda rollouts: on_disk.append(len(list(parts_folder(path).glob("*.parquet")))))
    assert on_disk == [1, 2, 3, 4, 5]
    file = pq.ParquetFile(path)
    assert file.num_row_groups == 3  # 15 rows a sequence
    monkeypatch.undo()
    recording().run(tmp_path / "one.parquet")
    assert_same_rows(tmp_path / "one.parquet", path)


@pytest.mark.parametrize(("name", "value"), [("coupling", "invariant"), ("sampling", "model")])
def test_what_a_trace_cannot_say_is_refused(recording: Record, tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(InputError, match=rf"^generate\.{name}: a trace"):
        recording(**{name: value}).run(tmp_path / "t.parquet")
