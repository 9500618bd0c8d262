"""llama.h over tables: what the engine `llamacpp` calls of llama.cpp, with a `TableModel` where weights would be.

Batches are read through the pointers that llama.cpp would follow, logits are float64 in memory that the next batch
overwrites, and what is taken back, lost or refused is what llama.cpp takes back, loses or refuses.
"""

import ctypes
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar, Self

from stopkit.testing import TableModel
from stopkit_engines.llamacpp.engine import LlamaCppEngine
from stopkit_engines.llamacpp.model import GgufModel

INT, BYTE, FLOAT = ctypes.POINTER(ctypes.c_int32), ctypes.POINTER(ctypes.c_int8), ctypes.POINTER(ctypes.c_float)


class Batch(ctypes.Structure):
    """llama_batch."""

    _fields_ = [
        ("n_tokens", ctypes.c_int32),
        ("token", INT),
        ("embd", FLOAT),
        ("pos", INT),
        ("n_seq_id", INT),
        ("seq_id", ctypes.POINTER(INT)),
        ("logits", BYTE),
    ]


@dataclass
class Sequence:
    """What is kept of one sequence."""

    tokens: dict[int, int] = field(default_factory=dict)
    """By position."""
    fresh: int = 0
    """Tokens of its last batch: so many states were kept."""
    spoilt: bool = False
    """Whether it goes on from a state that is of another place."""


@dataclass
class Memory:
    """A context."""

    model: TableModel
    params: Any
    rows: list[Sequence]
    table: list[list[list[float]]]
    buffer: Any = None
    hidden: Any = None


@dataclass
class Tables:
    """The functions of llama.h. With a `window` the oldest tokens are lost; with `states` few tokens are taken back."""

    window: int = 0
    states: bool = False
    most_rows: int = 2048
    llama_batch: ClassVar[Any] = Batch
    GGML_TYPE_F16: ClassVar[int] = 1
    GGML_TYPE_F32: ClassVar[int] = 0

    def llama_model_get_vocab(self, model: TableModel) -> TableModel:
        return model

    def llama_model_free(self, model: TableModel) -> None: ...

    def llama_free(self, memory: Memory) -> None: ...

    def llama_vocab_n_tokens(self, model: TableModel) -> int:
        return int(model.config.vocab_size)

    def llama_model_n_ctx_train(self, model: TableModel) -> int:
        return int(model.config.max_position_embeddings)

    def llama_model_n_embd_out(self, model: TableModel) -> int:
        return int(model.config.vocab_size)

    def llama_model_n_swa(self, model: TableModel) -> int:
        return self.window

    def llama_model_is_recurrent(self, model: TableModel) -> bool:
        return False

    def llama_model_is_hybrid(self, model: TableModel) -> bool:
        return self.states

    def llama_vocab_is_eog(self, model: TableModel, token: int) -> bool:
        return bool(token == model.config.eos_token_id)

    def llama_model_desc(self, model: TableModel, text: Any, size: int) -> None:
        text.value = b"a table"

    def llama_max_parallel_sequences(self) -> int:
        return self.most_rows

    def llama_context_default_params(self) -> Any:
        return SimpleNamespace(n_ubatch=512)

    def llama_init_from_model(self, model: TableModel, params: Any) -> Memory:
        return Memory(model, params, [Sequence() for _ in range(params.n_seq_max)], model.table.tolist())

    def llama_get_memory(self, memory: Memory) -> Memory:
        return memory

    def llama_set_embeddings(self, memory: Memory, wanted: bool) -> None: ...

    def llama_get_logits(self, memory: Memory) -> Any:
        return ctypes.cast(memory.buffer, ctypes.POINTER(ctypes.c_double))

    def llama_get_embeddings(self, memory: Memory) -> Any:
        return ctypes.cast(memory.hidden, ctypes.POINTER(ctypes.c_double))

    def llama_memory_seq_rm(self, memory: Memory, row: int, begin: int, end: int) -> bool:
        """With states, as llama.cpp does it: it answers yes wherever it keeps enough, be they of this batch or not."""
        assert end == -1
        sequence = memory.rows[row]
        back = len(sequence.tokens) - begin
        if self.states and begin and back:
            if back > memory.params.n_rs_seq:
                return False
            sequence.spoilt |= back >= sequence.fresh
        sequence.tokens = {place: token for place, token in sequence.tokens.items() if place < begin}
        sequence.spoilt &= begin > 0
        return True

    def llama_memory_seq_pos_min(self, memory: Memory, row: int) -> int:
        return min(memory.rows[row].tokens, default=-1)

    def llama_decode(self, memory: Memory, batch: Batch) -> int:
        columns, given, hidden = memory.model.config.vocab_size, [], []
        if memory.buffer:  # nobody may read what an earlier batch gave: this makes it NaN
            ctypes.memset(memory.buffer, 0xFF, ctypes.sizeof(memory.buffer))
        for sequence in memory.rows:
            sequence.fresh = 0
        for number in range(batch.n_tokens):
            assert batch.n_seq_id[number] == 1
            place, token, sequence = batch.pos[number], batch.token[number], memory.rows[batch.seq_id[number][0]]
            if place != max(sequence.tokens, default=-1) + 1 or not 0 <= token < columns:
                return -1
            sequence.tokens[place] = token
            sequence.fresh += 1
            if batch.logits[number]:
                given += self._logits(memory, sequence, place)
                hidden += [float(token == each) for each in range(columns)]
        if sum(len(sequence.tokens) for sequence in memory.rows) > memory.params.n_ctx:
            return 1
        if self.window and not memory.params.swa_full:
            for sequence in memory.rows:
                kept = sorted(sequence.tokens)[-self.window :]
                sequence.tokens = {place: sequence.tokens[place] for place in kept}
        memory.buffer, memory.hidden = ((ctypes.c_double * len(each))(*each) for each in (given, hidden))
        return 0

    def _logits(self, memory: Memory, sequence: Sequence, place: int) -> list[float]:
        config, index = memory.model.config, 0
        for back in range(config.order - 1, -1, -1):
            index = index * (config.vocab_size + 1) + 1 + sequence.tokens.get(place - back, -1)
        phase = (2 * place + 1) % config.phases  # its position, and as many tokens that it sees
        logits = memory.table[phase][index]
        return logits[::-1] if sequence.spoilt else logits


class OverTables(LlamaCppEngine):
    """The engine, with tables for models."""

    llama: ClassVar[Tables] = Tables()

    @classmethod
    def from_models(cls, target: Any, draft: Any | None = None, tokenizer: Any | None = None, **fields: Any) -> Self:
        table = isinstance(target, TableModel)
        models = [GgufModel(cls.llama, each) if table and each is not None else each for each in (target, draft)]
        return super().from_models(*models, tokenizer, **fields)


def over(llama: Tables, **fields: Any) -> type[OverTables]:
    """The engine over tables that llama.h runs in this way, with `fields` of the engine."""

    class Other(OverTables):
        @classmethod
        def from_models(cls, *models: Any, **more: Any) -> Self:
            return super().from_models(*models, **more | fields)

    Other.llama = llama
    return Other
