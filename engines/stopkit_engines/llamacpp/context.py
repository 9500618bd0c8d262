"""`Context`: a model with its memory of several sequences. What llama.cpp can take back of them is decided here."""

import ctypes
import weakref
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from stopkit.errors import GenerationError
from stopkit_engines.llamacpp.batch import Batch, Span
from stopkit_engines.llamacpp.library import reason

DTYPES = {ctypes.c_float: torch.float32, ctypes.c_double: torch.float64}
NO_SLOT = 1
"""What `llama_decode` returns where the memory has no room for a batch."""


class Settings(BaseModel):
    """How contexts are made. The fields are llama.cpp's, by names that say what they do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threads: int = Field(ge=1)
    cache: Literal["float16", "float32"]
    flash_attention: bool | None
    swa_full: bool
    states: int = Field(ge=0)


class Rows(NamedTuple):
    """What one batch gave, a row for each position that was to be scored, in the batch's order.

    Both are llama.cpp's own memory, and valid until the next batch.
    """

    logits: Tensor
    """[N, V]"""
    hidden_state: Tensor | None
    """[N, D], if asked for."""


class Context:
    """`rows` sequences of at most `capacity` tokens beside each other; `model` is a `GgufModel`."""

    def __init__(self, model: Any, rows: int, capacity: int, settings: Settings) -> None:
        self._model, self._llama = model, model.llama
        self._last: dict[int, int] = {}  # the rows of the last batch, and where each began in it
        self._hidden = False
        params = self._llama.llama_context_default_params()
        params.n_ctx = params.n_batch = rows * capacity
        params.n_ubatch = min(params.n_ubatch, params.n_batch)
        params.n_seq_max = rows
        params.kv_unified = True  # or rows of different width would be read in several passes over the weights
        params.n_threads = params.n_threads_batch = settings.threads
        params.type_k = params.type_v = {
            "float16": self._llama.GGML_TYPE_F16,
            "float32": self._llama.GGML_TYPE_F32,
        }[settings.cache]
        if settings.flash_attention is not None:
            params.flash_attn_type = int(settings.flash_attention)
        params.swa_full = settings.swa_full
        params.n_rs_seq = settings.states if model.has_states else 0
        params.no_perf = True
        self._window = 0 if settings.swa_full else model.window
        self._context = self._llama.llama_init_from_model(model.handle, params)
        if not self._context:
            raise GenerationError(reason(f"llama.cpp cannot make room for {rows} sequences of {capacity} tokens"))
        weakref.finalize(self, _free, self._context, model)
        self._memory = self._llama.llama_get_memory(self._context)
        self._batch = Batch(self._llama.llama_batch, params.n_batch)
        self._views: dict[tuple[int, int, int], Tensor] = {}

    def decode(self, spans: Sequence[Span], hidden: bool = False) -> Rows:
        """See the `spans`, and score the positions that they say. Raises GenerationError where llama.cpp cannot."""
        if hidden:  # asked for hidden states it scores whole batches, and a prompt may be long
            self._see([span.unscored for span in spans if len(span.tokens) > span.scored], hidden=False)
            spans = [span.last for span in spans]
        self._see(spans, hidden)
        scored = sum(span.scored for span in spans)
        logits = self._view(self._llama.llama_get_logits(self._context), scored, self._model.vocabulary)
        if not hidden:
            return Rows(logits, None)
        return Rows(logits, self._view(self._llama.llama_get_embeddings(self._context), scored, self._model.width))

    def _see(self, spans: Sequence[Span], hidden: bool) -> None:
        if not spans:
            return
        if hidden != self._hidden:
            self._llama.llama_set_embeddings(self._context, hidden)
            self._hidden = hidden
        self._last = {span.row: span.begin for span in spans}
        if code := self._llama.llama_decode(self._context, self._batch.of(spans)):
            fault = "its memory is full" if code == NO_SLOT else f"llama_decode returns {code}"
            raise GenerationError(reason(f"llama.cpp fails to read {len(spans)} sequences; {fault}"))

    def forget(self, row: int, keep: int) -> bool:
        """Forget all but the first `keep` tokens of a row; whether that is done, and nothing else was lost.

        To forget everything always succeeds. llama.cpp takes back a recurrent state within the last batch alone, since
        it keeps the states that this batch went through, and says so of more than that, too; a window of the width it
        needs may have lost its oldest tokens to those that are taken back.
        """
        if self._model.has_states and 0 < keep <= self._last.get(row, keep):
            return False
        if not self._llama.llama_memory_seq_rm(self._memory, row, keep, -1):
            return False
        if not (self._window and keep):
            return True
        first = int(self._llama.llama_memory_seq_pos_min(self._memory, row))
        return 0 <= first <= max(0, keep + 1 - self._window)

    def _view(self, pointer: Any, rows: int, columns: int) -> Tensor:
        """What is at `pointer`, [rows, columns], without a copy."""
        at = (ctypes.addressof(pointer.contents), rows, columns)
        if at not in self._views:
            memory = (pointer._type_ * (rows * columns)).from_address(at[0])
            self._views[at] = torch.frombuffer(memory, dtype=DTYPES[pointer._type_]).view(rows, columns)
        return self._views[at]


def _free(context: Any, model: Any) -> None:
    """Free a context, while its model, which this holds, is still there."""
    model.llama.llama_free(context)
