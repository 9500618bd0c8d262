"""The files of a trace, checked before they are believed: one file, a folder of shards, or an unfinished recording."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from stopkit.errors import InputError, one_line
from stopkit.hashing import hash_of_json
from stopkit.trace.format import COLUMNS, FORMAT, KEY, VERSION, Metadata


def parts_folder(path: Path) -> Path:
    """Where the sequences of an unfinished recording lie."""
    return path.with_name(path.name + ".parts")


def part_file(path: Path, sequence: int) -> Path:
    """Where one sequence of an unfinished recording lies."""
    return parts_folder(path) / f"{sequence:08d}.parquet"


def trace_files(path: Path) -> list[Path]:
    """The Parquet files that make up the trace at `path`. Raises InputError if there are none."""
    unfinished = sorted(parts_folder(path).glob("*.parquet"))
    if path.is_file():
        # Joining may have been cut off after the whole was there and before the parts were gone.
        joined = {part_file(path, sequence) for sequence in recorded_sequences(path)} if unfinished else set()
        return [path, *(part for part in unfinished if part not in joined)]
    shards = sorted(file for shard in _shards(path) for file in trace_files(shard)) if path.is_dir() else []
    if not shards and not unfinished:
        raise InputError(f"{path}: there is no trace; `stopkit trace record` writes one.")
    return [*shards, *unfinished]


def _shards(folder: Path) -> set[Path]:
    """The traces in a folder, those that are parts only included."""
    unfinished = {Path(str(parts).removesuffix(".parts")) for parts in folder.glob("*.parquet.parts")}
    return {file for file in folder.glob("*.parquet") if file.is_file()} | unfinished


def read_metadata(file: Path) -> Metadata:
    """How the recording in `file` was made. Raises InputError if it is no trace that this version can read."""
    with _opened(file) as opened:
        schema = opened.schema_arrow
    document = _document(schema)
    if document.get("format") != FORMAT:
        raise InputError(f"{file}: is a Parquet file but no trace; `stopkit trace record` writes one.")
    version = document.get("version")
    if not isinstance(version, int) or not 1 <= version <= VERSION:
        raise InputError(
            f"{file}: is a trace of version {version}, and this stopkit reads versions up to {VERSION}; record it "
            "again, or install the stopkit that wrote it."
        )
    here = [column.name for column in COLUMNS if column.since <= version]
    if missing := [name for name in here if name not in schema.names]:
        raise InputError(f"{file}: is a trace without the columns {', '.join(missing)}; record it again.")
    recording = document.get("recording")
    try:
        metadata = Metadata.model_validate(recording)
    except ValidationError as error:
        raise InputError(f"{file}: its metadata is damaged: {one_line(error)}; record it again.") from None
    if document.get("hash", hash_of_json(recording)) != hash_of_json(recording):
        raise InputError(f"{file}: its metadata is damaged: it is not what was written; record it again.")
    return metadata


def version_of(file: Path) -> int:
    """The version of the trace in `file`, whose metadata has been read."""
    with _opened(file) as opened:
        return int(_document(opened.schema_arrow)["version"])


def recorded_sequences(file: Path) -> set[int]:
    """The numbers of the sequences in `file`."""
    with _opened(file) as opened:
        return set(opened.read(columns=["sequence"])["sequence"].unique().to_pylist())


def recorded_tokens(file: Path) -> int:
    """How many tokens of the target `file` holds."""
    with _opened(file) as opened:
        return int(pc.sum(pc.equal(opened.read(columns=["position"])["position"], 0)).as_py())


def tables(file: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The row groups of `file`, one after another."""
    with _opened(file) as opened:
        for group in range(opened.num_row_groups):
            yield opened.read_row_group(group, columns=columns)


def require_same_recording(where: str, metadata: Metadata, wanted: Metadata) -> None:
    """Raise InputError, naming what differs, unless both belong to one recording."""
    ours, theirs = flat(metadata.common), flat(wanted.common)
    for name, value in ours.items():
        if value != theirs.get(name):
            raise InputError(f"{where}: is another recording: its {name} is {value}, not {theirs.get(name)}.")


def flat(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Leaves by dotted name."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        leaves |= flat(value, f"{above}{name}.") if isinstance(value, Mapping) else {above + name: value}
    return leaves


def _document(schema: pa.Schema) -> dict[str, Any]:
    try:
        document = json.loads((schema.metadata or {}).get(KEY, b"{}"))
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


@contextmanager
def _opened(file: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as opened:
            yield opened
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:  # whatever damage leads to
        reason = one_line(error).rstrip(".")
        raise InputError(f"{file}: is not a whole Parquet file ({reason}); copy or record it again.") from None
