"""Writing a trace: every sequence is on disk, whole, before the next one is begun.

Each sequence becomes a small file in `PATH.parts/`; closing joins them into `PATH`, also when the recording was
interrupted. If not even that was possible, the folder of parts is a trace by itself, and resuming goes on from it.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from stopkit.errors import InputError
from stopkit.files import UNFINISHED, replacing
from stopkit.trace.files import (
    part_file,
    parts_folder,
    read_metadata,
    recorded_sequences,
    require_same_recording,
    tables,
    trace_files,
    version_of,
)
from stopkit.trace.format import VERSION, Metadata, arrow_schema
from stopkit.trace.recorder import Rollouts

PART = re.compile(rf"\d{{8}}\.parquet|{re.escape(UNFINISHED)}")
"""How the names begin of what a recording puts into its folder of parts."""
GROUP_ROWS = 1 << 16
"""Rows of a row group, about."""


class TraceWriter:
    """Writes the sequences of one recording to `path`; a context that joins what there is when it is left.

    With `resume`, goes on with what `path` or its parts hold; conditions and timings stay as they were when it began.
    Raises InputError if there is something and `resume` is false, or if it is another recording or another shard.
    """

    def __init__(self, path: Path, metadata: Metadata, resume: bool = False) -> None:
        self._path, self._parts = path, parts_folder(path)
        self.metadata = metadata
        """What goes into the file. May be changed before the first sequence is written."""
        before = recorded_files(path, resume)
        for file in before:
            earlier = read_metadata(file)
            if (version := version_of(file)) != VERSION:
                raise InputError(
                    f"{path}: is a trace of version {version}, which can be replayed but not gone on with; record it "
                    "again."
                )
            require_same_recording(str(path), earlier, metadata)
            if earlier.shard != metadata.shard:
                raise InputError(f"{path}: is another shard: {earlier.shard}, not {metadata.shard}.")
            self.metadata = earlier
        self.done = {sequence for file in before for sequence in recorded_sequences(file)}
        """Numbers of the sequences that are on disk."""

    def write(self, rollouts: Rollouts) -> None:
        """Put one sequence on disk."""
        self._parts.mkdir(exist_ok=True)
        schema = arrow_schema(self.metadata)
        _write_whole(part_file(self._path, rollouts.sequence), schema, iter([as_table(rollouts, schema)]))
        self.done.add(rollouts.sequence)

    def close(self) -> None:
        """Join everything into one file and remove the parts."""
        if not any(self._parts.glob("*.parquet")):
            return
        rows = (table for file in trace_files(self._path) for table in tables(file))
        _write_whole(self._path, arrow_schema(self.metadata), rows)
        shutil.rmtree(self._parts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def recorded_files(path: Path, resume: bool) -> list[Path]:
    """The files to go on with at `path`.

    Raises InputError if there are some and `resume` is false, or if something is where parts of the recording go.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name the file to write.")
    parts = parts_folder(path)
    if parts.exists() and not (parts.is_dir() and all(PART.match(part.name) for part in parts.iterdir())):
        raise InputError(f"{parts}: holds something else, and parts of the recording go there; name another file.")
    files = trace_files(path) if path.exists() or any(parts.glob("*.parquet")) else []
    if files and not resume:
        raise InputError(f"{path}: exists; --resume goes on with it, or choose another file.")
    return files


def as_table(rollouts: Rollouts, schema: pa.Schema) -> pa.Table:
    """A row for every position of every rollout, and one for a start at which nothing could be drafted."""
    starts, longest = len(rollouts.output), max(1, int(rollouts.drafted.max()))
    position = torch.arange(longest).expand(starts, -1)
    drafted = rollouts.drafted.unsqueeze(1)
    there = position < drafted.clamp(min=1)
    nothing = (position >= drafted)[there].numpy()
    of_starts = {
        "sequence": torch.full((starts,), rollouts.sequence),
        "start": torch.arange(starts),
        "last_token": rollouts.last_token,
        "output": rollouts.output,
        "limit": rollouts.limit,
        "length": torch.full((starts,), -1) if rollouts.length is None else rollouts.length,
    }
    if rollouts.entropy is not None:
        of_starts["target_entropy"] = rollouts.entropy
    known = {name: value.unsqueeze(1).expand_as(position) for name, value in of_starts.items()} | {"position": position}

    def column(field: pa.Field) -> pa.Array:
        if field.name in known:
            return pa.array(known[field.name][there].numpy(), field.type)
        if field.name not in rollouts.columns:
            return pa.nulls(len(nothing), field.type)
        values = rollouts.columns[field.name][there].numpy()
        return pa.array(list(values) if values.ndim > 1 else values, field.type, mask=nothing)

    return pa.Table.from_arrays([column(field) for field in schema], schema=schema)


def _write_whole(path: Path, schema: pa.Schema, tables: Iterator[pa.Table]) -> None:
    floats = [field.name for field in schema if pa.types.is_float32(field.type)]
    how = {
        "compression": "zstd",
        "use_dictionary": [field.name for field in schema if field.name not in floats],
        "use_byte_stream_split": floats,
        "write_page_checksum": True,
    }
    with replacing(path) as unfinished, pq.ParquetWriter(unfinished, schema, **how) as writer:
        for group in _groups(tables):
            writer.write_table(group)


def _groups(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """`tables` put together until there are about `GROUP_ROWS` rows."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(map(len, waiting)) >= GROUP_ROWS:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)
