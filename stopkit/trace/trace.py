"""A trace in memory: what was recorded, as tensors over all starts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from stopkit.errors import InputError
from stopkit.policy import TOLD
from stopkit.trace.files import read_metadata, require_same_recording, tables, trace_files, version_of
from stopkit.trace.format import COLUMNS, HIDDEN_STATE, Metadata

OF_STARTS = ("sequence", "start", "position", "last_token", "output", "limit", "length", "target_entropy")
WHOLE = ("last_token", "output", "limit", "length", "entropy", "drafted", "run", "recorded")
"""What a trace in memory holds of every start."""


@dataclass(frozen=True)
class Trace:
    """S sequences with T starts altogether, rollouts of up to K tokens."""

    path: str
    metadata: Metadata
    first: Tensor
    """[S + 1] long: the starts of sequence s are those from `first[s]` up to `first[s + 1]`."""
    sequences: tuple[int, ...]
    """Numbers of the sequences in the recording."""
    last_token: Tensor
    """[T] long, the token before each start."""
    output: Tensor
    """[T] long, the target's own tokens."""
    length: Tensor
    """[T] long, tokens before each start, the prompt's included; −1 where that was not recorded."""
    entropy: Tensor
    """[T], nats, the target's entropy where it gave the token before each start; NaN at the first, and if unknown."""
    limit: Tensor
    """[T] long, most tokens that an engine could draft, at most K."""
    drafted: Tensor
    """[T] long, tokens of the rollout."""
    run: Tensor
    """[T] long, how many of the rollout's first tokens the target accepts."""
    recorded: Tensor
    """[T] long, places of these starts among all that the files hold."""
    columns: dict[str, Tensor]
    """By name, [T, K] (`hidden_state`: [T, K, D]); zero past `drafted`."""
    tells: frozenset[str] = TOLD
    """What of a round's context is known."""

    @classmethod
    def open(cls, path: str | Path, hidden_state: bool = False) -> "Trace":
        """Read a trace file, a folder of shards, or an unfinished recording; `hidden_state` reads that column, too.

        Raises InputError if there is none, if a file is damaged or foreign, or if shards do not belong together.
        """
        files = trace_files(Path(path))
        recordings = [read_metadata(file) for file in files]
        for file, metadata in zip(files, recordings, strict=True):
            require_same_recording(str(file), metadata, recordings[0])
        if hidden_state and not recordings[0].hidden_state:
            raise InputError(f"{path}: has no hidden states; record it with --hidden-state.")
        version = min(map(version_of, files))
        names = [column.name for column in COLUMNS if column.since <= version]
        names += [HIDDEN_STATE.name] if hidden_state else []
        whole = pa.concat_tables([table for file in files for table in tables(file, names)])
        return _dense(str(path), recordings[0], whole)

    @cached_property
    def with_hidden_state(self) -> Self:
        """The same with the column `hidden_state`, which is large and is read only when something asks for it.

        Raises InputError if it was not recorded.
        """
        name = HIDDEN_STATE.name
        if name in self.columns:
            return self
        column = Trace.open(self.path, hidden_state=True).columns[name]
        return replace(self, columns={**self.columns, name: column[self.recorded]})

    @property
    def tokens(self) -> int:
        """All tokens of all sequences."""
        return len(self.output)

    @property
    def lengths(self) -> Tensor:
        """[S] long, tokens of each sequence."""
        return self.first.diff()

    def select(self, rows: Sequence[int] | Tensor) -> Self:
        """The sequences at these places, in this order."""
        spans = [torch.arange(int(self.first[row]), int(self.first[row + 1])) for row in rows]
        first = torch.tensor([0, *(len(span) for span in spans)]).cumsum(0)
        kept = self._at(torch.cat(spans))
        return replace(kept, first=first, sequences=tuple(self.sequences[row] for row in rows))

    def beginning(self, sequences: int | None = None, tokens: int | None = None) -> Self:
        """The first `sequences`, each cut to its first `tokens`; all of what is None. Raises InputError for others."""
        there = len(self.sequences)
        if sequences is not None and not 1 <= sequences <= there:
            raise InputError(f"sequences: is {sequences}, and {self.path} holds {there}.")
        if tokens is not None and tokens < 1:
            raise InputError(f"max_new_tokens: is {tokens}; a sequence has at least one.")
        kept = self if sequences is None else self.select(range(sequences))
        return kept if tokens is None else kept.shortened(tokens)

    def shortened(self, tokens: int) -> Self:
        """Every sequence cut to its first `tokens`, as if no more had been asked for."""
        start = torch.arange(self.tokens) - self.first[:-1].repeat_interleave(self.lengths)
        kept = self._at((start < tokens).nonzero().squeeze(1))
        left = tokens - 1 - start[start < tokens]
        first = torch.cat([torch.zeros(1, dtype=torch.long), self.lengths.clamp(max=tokens).cumsum(0)])
        cut: dict[str, Any] = {name: torch.minimum(getattr(kept, name), left) for name in ("limit", "drafted", "run")}
        return replace(kept, first=first, **cut)

    def _at(self, starts: Tensor) -> Self:
        columns = {name: column[starts] for name, column in self.columns.items()}
        of_starts = {name: getattr(self, name)[starts] for name in WHOLE}
        return replace(self, columns=columns, **of_starts)


def _dense(path: str, metadata: Metadata, table: pa.Table) -> Trace:
    order = {name: table[name].to_numpy() for name in OF_STARTS if name in table.column_names}
    at = np.lexsort((order["position"], order["start"], order["sequence"]))
    table, order = table.take(at), {name: values[at] for name, values in order.items()}
    heads = np.flatnonzero(order["position"] == 0)
    _require_whole(path, order, heads)
    start = np.cumsum(order["position"] == 0) - 1
    there = ~table["token"].is_null().to_numpy()
    starts, longest = len(heads), metadata.max_draft
    place = torch.from_numpy((start * longest + order["position"])[there])

    def column(name: str) -> Tensor:
        values = table[name].drop_null()
        flat = np.stack(values.to_numpy()) if name == HIDDEN_STATE.name else values.to_numpy()
        values = torch.tensor(flat.astype(np.int64) if flat.dtype.kind == "i" else flat)
        dense = torch.zeros(starts * longest, *values.shape[1:], dtype=values.dtype)
        dense[place] = values
        return dense.view(starts, longest, *values.shape[1:])

    columns = {name: column(name) for name in table.column_names if name not in OF_STARTS}
    numbers, first = np.unique(order["sequence"][heads], return_index=True)
    drafted = torch.from_numpy(np.bincount(start[there], minlength=starts))
    untold = {"length": np.full(len(table), -1), "target_entropy": np.full(len(table), np.nan, np.float32)}
    last_token, output, limit, length = (
        torch.from_numpy((untold | order)[name][heads].astype(np.int64))
        for name in ("last_token", "output", "limit", "length")
    )
    entropy = torch.tensor((untold | order)["target_entropy"][heads]).roll(1)
    entropy[torch.from_numpy(first)] = torch.nan
    return Trace(
        path=path,
        metadata=metadata,
        first=torch.from_numpy(np.append(first, starts)),
        sequences=tuple(numbers.tolist()),
        last_token=last_token,
        output=output,
        length=length,
        entropy=entropy,
        limit=limit.clamp(max=longest),
        drafted=drafted,
        run=columns.pop("accepted").long().sum(1),
        recorded=torch.arange(starts),
        columns=columns,
        tells=_told(order),
    )


def _told(order: dict[str, Any]) -> frozenset[str]:
    """What of a round's context these columns tell."""
    length, entropy = order.get("length", np.array([-1])), order.get("target_entropy", np.array([np.nan]))
    known = {"length": bool((length >= 0).all()), "entropy": not np.isnan(entropy).any()}
    return frozenset(name for name in TOLD if known[name])


def _require_whole(path: str, order: dict[str, Any], heads: Any) -> None:
    """Raise InputError if a sequence is there twice or a start of one is missing."""
    sequence, start = order["sequence"][heads], order["start"][heads]
    expected = np.where(np.diff(sequence, prepend=-1) != 0, 0, np.roll(start, 1) + 1)
    if (wrong := np.flatnonzero(start != expected)).size:
        raise InputError(
            f"{path}: sequence {sequence[wrong[0]]} is there twice or lacks a start; give each shard once, or record "
            "it again."
        )
