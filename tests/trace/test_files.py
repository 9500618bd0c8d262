"""What is written is read back; what is damaged or foreign is refused in a line that says where and why."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import stopkit
from stopkit import InputError
from stopkit.costs import FixedCosts
from stopkit.plugins import registry
from stopkit.testing import TableModel
from stopkit.trace.format import COLUMNS, KEY, OPTIONAL
from stopkit.trace.recorder import Rollouts
from stopkit.trace.replay import lacking, replay
from stopkit.trace.shards import Shard
from stopkit.trace.trace import Trace
from tests.trace.conftest import Record, rows


@pytest.mark.parametrize("options", [{}, {"hidden_state": True, "top_k_logits": 3}], ids=str)
def test_round_trip(recording: Record, tmp_path: Path, options: dict[str, Any]) -> None:
    recorded: list[Rollouts] = []
    recording(**options).run(tmp_path / "t.parquet", tick=recorded.append)
    table = rows(tmp_path / "t.parquet")
    kept = OPTIONAL if options else ()
    assert table.column_names == [column.name for column in (*COLUMNS, *kept)]
    found = iter(table.to_pylist())
    for rollouts in recorded:
        for start, drafted in enumerate(rollouts.drafted.tolist()):
            for position in range(max(1, drafted)):
                row = next(found)
                assert (row["sequence"], row["start"], row["position"]) == (rollouts.sequence, start, position)
                assert (row["output"], row["limit"]) == (rollouts.output[start], rollouts.limit[start])
                assert rollouts.length is not None
                assert rollouts.entropy is not None
                assert (row["length"], row["target_entropy"]) == (rollouts.length[start], rollouts.entropy[start])
                for name, column in rollouts.columns.items():
                    assert row[name] == (column[start, position].tolist() if drafted else None), name
    assert next(found, None) is None


def test_a_trace_in_memory(recording: Record, tmp_path: Path) -> None:
    recorded: list[Rollouts] = []
    recording(hidden_state=True).run(tmp_path / "t.parquet", tick=recorded.append)
    trace = Trace.open(tmp_path / "t.parquet", hidden_state=True)
    assert trace.tokens == sum(len(rollouts.output) for rollouts in recorded)
    for row, rollouts in enumerate(recorded):
        span = slice(int(trace.first[row]), int(trace.first[row + 1]))
        there = torch.arange(4) < rollouts.drafted.unsqueeze(1)
        assert torch.equal(trace.output[span], rollouts.output)
        assert torch.equal(trace.limit[span], rollouts.limit.clamp(max=4))
        assert torch.equal(trace.drafted[span], rollouts.drafted)
        assert rollouts.length is not None
        assert rollouts.entropy is not None
        assert torch.equal(trace.length[span], rollouts.length)
        assert torch.isnan(trace.entropy[span][0])
        assert torch.equal(trace.entropy[span][1:], rollouts.entropy[:-1])
        assert torch.equal(trace.run[span], (rollouts.columns["accepted"] & there).sum(1))
        for name, column in trace.columns.items():
            assert torch.equal(column[span][there], rollouts.columns[name][there].to(column.dtype)), name
            assert not column[span][~there].any(), name


def _as_version_1(path: Path) -> Path:
    """What a recording was before it told lengths, the target's entropy and top tokens."""
    table = pq.read_table(path).drop_columns(["length", "target_entropy", "top_token"])
    document = json.loads(table.schema.metadata[KEY]) | {"version": 1}
    pq.write_table(table.replace_schema_metadata({KEY: json.dumps(document)}), path)
    return path


class Told(stopkit.StoppingPolicy):
    """Reads what old traces lack."""

    kind: ClassVar[str] = "told"
    signals: ClassVar[frozenset[str]] = frozenset({"top_token"})
    context: ClassVar[frozenset[str]] = frozenset({"entropy", "length"})


def test_an_old_trace_stays_readable(recording: Record, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    recording().run(path)
    new, old = Trace.open(path), Trace.open(_as_version_1(path))
    for name in ("first", "last_token", "output", "limit", "drafted", "run"):
        assert torch.equal(getattr(new, name), getattr(old, name))
    assert new.columns.keys() - old.columns.keys() == {"top_token"}
    assert (new.tells, old.tells) == ({"length", "entropy"}, set())
    assert old.length.eq(-1).all()
    assert old.entropy.isnan().all()
    costs = [FixedCosts(draft_step=0.1, verify=1)]
    adaedl = stopkit.load_policy("adaedl")
    assert replay(new, adaedl, costs) == replay(old, adaedl, costs)
    assert lacking(new, Told()) is None
    reason = "reads context.entropy, context.length, top_token; this trace is of an earlier version; record it again"
    assert lacking(old, Told()) == reason
    with pytest.raises(InputError, match=reason):
        stopkit.replay(path, [Told()])
    with pytest.raises(InputError, match="is a trace of version 1, which can be replayed but not gone on with"):
        recording().run(path, resume=True)


def test_shards_of_two_versions_are_read_as_the_older(recording: Record, tmp_path: Path) -> None:
    for number in (1, 2):
        recording(shard=Shard(number, 2)).run(tmp_path / f"{number}.parquet")
    _as_version_1(tmp_path / "2.parquet")
    trace = Trace.open(tmp_path)
    assert len(trace.sequences) == 5
    assert "top_token" not in trace.columns
    assert not trace.tells


def test_sequences_that_end(recording: Record, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    models = [TableModel.random(3, generator, scale=0.5, end_of_sequence=2) for _ in range(2)]
    engine = registry().engine("eager").from_models(*models)
    recording(engine=engine, prompts=[[0, 1]] * 12, max_new_tokens=8).run(tmp_path / "t.parquet")
    trace = Trace.open(tmp_path / "t.parquet")
    assert len(set(trace.lengths.tolist())) > 2
    ends = trace.output[trace.first[1:] - 1]
    assert ((ends == 2) | (trace.lengths == 8)).all()


def test_nothing_was_drafted_anywhere(recording: Record, tmp_path: Path) -> None:
    recording(max_new_tokens=1, hidden_state=True, top_k_logits=2).run(tmp_path / "t.parquet")
    assert rows(tmp_path / "t.parquet")["token"].null_count == 5
    trace = Trace.open(tmp_path / "t.parquet")
    assert (trace.tokens, int(trace.limit.max()), int(trace.drafted.max())) == (5, 0, 0)


def test_hidden_states_that_were_not_recorded(recording: Record, tmp_path: Path) -> None:
    recording().run(tmp_path / "t.parquet")
    with pytest.raises(InputError, match="has no hidden states; record it with --hidden-state"):
        Trace.open(tmp_path / "t.parquet", hidden_state=True)


def _text(path: Path) -> None:
    path.write_text("hello")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _scratched(path: Path) -> None:
    """Damage the pages and leave the footer as it is."""
    whole = bytearray(path.read_bytes())
    at = pq.ParquetFile(path).metadata.row_group(0).column(0)
    start = at.dictionary_page_offset or at.data_page_offset
    whole[start : start + at.total_compressed_size] = b"\xff" * at.total_compressed_size
    path.write_bytes(whole)


def _foreign(path: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), path)


def _with(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        table = pq.read_table(path)
        document = json.loads(table.schema.metadata[KEY])
        change(document)
        pq.write_table(table.replace_schema_metadata({KEY: json.dumps(document)}), path)

    return damage


def _no_json(path: Path) -> None:
    pq.write_table(pq.read_table(path).replace_schema_metadata({KEY: b"{"}), path)


def _no_beta(path: Path) -> None:
    pq.write_table(pq.read_table(path).drop_columns(["beta"]), path)


def _no_start(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.filter(pa.compute.not_equal(table["start"], 2)), path)


def _twice(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table]), path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_text, "is not a whole Parquet file"),
        (_empty, "is not a whole Parquet file"),
        (_cut, "is not a whole Parquet file"),
        (_scratched, "is not a whole Parquet file"),
        (_foreign, "is a Parquet file but no trace; `stopkit trace record` writes one"),
        (_no_json, "is a Parquet file but no trace"),
        (_with(lambda document: document.update(version=3)), "is a trace of version 3, and this stopkit reads"),
        (_with(lambda document: document.pop("version")), "is a trace of version None"),
        (_with(lambda document: document["recording"].pop("seed")), "its metadata is damaged: .*seed"),
        (_with(lambda document: document.pop("recording")), "its metadata is damaged"),
        (_no_beta, "is a trace without the columns beta"),
        (_no_start, "sequence 0 is there twice or lacks a start"),
        (_twice, "sequence 0 is there twice or lacks a start"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_a_whole_trace(
    recording: Record, tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    path = tmp_path / "t.parquet"
    recording().run(path)
    damage(path)
    with pytest.raises(InputError, match=rf"^{path}: {reason}") as caught:
        Trace.open(path)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_is_not_resumed(recording: Record, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    recording().run(path)
    _cut(path)
    with pytest.raises(InputError, match="is not a whole Parquet file"):
        recording().run(path, resume=True)


def test_there_is_no_trace(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.parquet", tmp_path / "none" / "t.parquet"):
        with pytest.raises(InputError, match="there is no trace; `stopkit trace record` writes one"):
            Trace.open(path)


def test_a_folder_of_other_recordings_is_no_trace(recording: Record, tmp_path: Path) -> None:
    recording().run(tmp_path / "a.parquet")
    recording(seed=1).run(tmp_path / "b.parquet")
    with pytest.raises(InputError, match=r"b\.parquet: is another recording: its seed is 1, not 0"):
        Trace.open(tmp_path)
    shutil.copy(tmp_path / "a.parquet", tmp_path / "b.parquet")
    with pytest.raises(InputError, match="give each shard once"):
        Trace.open(tmp_path)
