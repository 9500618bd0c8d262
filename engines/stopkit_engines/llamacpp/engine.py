"""`llamacpp`: GGUF models run by llama.cpp, on a CPU or a GPU."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, PrivateAttr, field_validator

from stopkit.costs import CostModel
from stopkit.engine import Engine
from stopkit.errors import InputError
from stopkit.generation import Request
from stopkit.validation import validated
from stopkit_engines.batch.decoding import BatchDecoding
from stopkit_engines.batch.draft_block import DraftBlock
from stopkit_engines.batch.draft_source import DraftSource, ModelDraft, NoDraft
from stopkit_engines.batch.drafts import DraftSpec
from stopkit_engines.batch.early_exit import EarlyExit
from stopkit_engines.batch.prompt_lookup import LookupDraft, PromptLookup
from stopkit_engines.batch.prompts import encoded
from stopkit_engines.batch.sequences import open_sequences
from stopkit_engines.batch.text import TextStream
from stopkit_engines.llamacpp import trial
from stopkit_engines.llamacpp.context import Context, Settings
from stopkit_engines.llamacpp.model import GgufModel, load
from stopkit_engines.llamacpp.places import locate
from stopkit_engines.llamacpp.runner import GgufRunner
from stopkit_engines.llamacpp.tokenizer import GgufTokenizer, require_same_tokens

LOCK = threading.RLock()
"""Models are loaded by one thread at a time."""


@dataclass(frozen=True)
class Models:
    """Loaded models and the target's tokenizer; without one, prompts are token ids."""

    target: GgufModel
    draft: GgufModel | None
    tokenizer: Any | None


class LlamaCppEngine(Engine):
    """GGUF models, run by llama.cpp. Any batch, any prompts, any policy; needs stopkit[llamacpp]."""

    kind: ClassVar[str] = "llamacpp"

    target: str = Field(
        default="bundled:target", description="the model whose output is wanted: a GGUF file or bundled:target"
    )
    draft: DraftSpec = Field(
        default="bundled:draft",
        description="what drafts: a model, likewise, or a block with a kind; unset, nothing can be drafted",
    )
    context: int | None = Field(
        default=None, ge=2, description="most tokens of a sequence; unset, what the target was trained for"
    )
    threads: int | None = Field(default=None, ge=1, description="threads of a forward; unset, as many as torch has")
    gpu_layers: int = Field(default=-1, ge=-1, description="layers to put on a GPU if llama.cpp has one; -1 puts all")
    cache: Literal["float16", "float32"] = Field(default="float16", description="keys and values")
    flash_attention: bool | None = Field(
        default=None, description="whether to fuse attention, on a CPU in half precision; unset, llama.cpp decides"
    )
    swa_full: bool = Field(
        default=True,
        description="keep all keys and values of layers with a sliding window, so that any block can be taken back; if "
        "not, they take less memory, and a sequence that lost too much is read again",
    )
    states: int = Field(
        default=16,
        ge=0,
        description="recurrent states that are kept to take back tokens, where a model has such and llama.cpp can; a "
        "longer block that is rejected has the sequence read again",
    )

    @field_validator("draft")
    @classmethod
    def _require_whole(cls, draft: Any) -> Any:
        if isinstance(draft, EarlyExit):
            raise ValueError("llama.cpp runs no part of a model; use a model or prompt_lookup, or the engine eager")
        return draft

    _models: Models | None = PrivateAttr(default=None)
    _costs: CostModel = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        self._costs = CostModel(self.costs)

    @classmethod
    def from_models(cls, target: Any, draft: Any | None = None, tokenizer: Any | None = None, **fields: Any) -> Self:
        block = draft is None or isinstance(draft, (Mapping, DraftBlock))
        for model in (target,) if block else (target, draft):
            if not isinstance(model, GgufModel):
                raise NotImplementedError(
                    f"{cls.kind} runs GGUF files and not models in memory such as this {type(model).__name__}; name "
                    "files as target and draft"
                )
        names = {"target": target.description, "draft": draft if block else draft.description}  # type: ignore[union-attr]
        engine = validated(cls, names | fields, "engine")
        engine._models = Models(target, None if block else draft, tokenizer)
        return engine

    @property
    def models(self) -> Models:
        """The loaded models; the first use loads them."""
        if self._models is None:
            with LOCK:
                self._models = self._models or self._load()
        return self._models

    def _load(self) -> Models:
        named = {"target": self.target, "draft": self.draft}
        models = {
            field: load(locate(name, f"engine.{field}"), self.gpu_layers, f"engine.{field}")
            for field, name in named.items()
            if isinstance(name, str)
        }
        tokenizers = {field: GgufTokenizer(model) for field, model in models.items() if model.has_text}
        if len(tokenizers) == len(named):
            require_same_tokens(tokenizers["target"], tokenizers["draft"], f"engine.draft: {self.draft}")
        return Models(models["target"], models.get("draft"), tokenizers.get("target"))

    def loaded(self) -> dict[str, Any]:
        if self._models is None:
            return {}
        models = {"target": self._models.target, "draft": self._models.draft}
        return {
            "models": {field: model.description for field, model in models.items() if model is not None},
            "threads": self._settings.threads,
        }

    def trial_of_models(self) -> dict[str, str]:
        models, longest = self.models, trial.BLOCK + max(trial.LENGTHS) + 1
        tried = {"target": (models.target, (trial.BLOCK,)), "draft": (models.draft, (1,) * trial.BLOCK)}
        return {
            field: trial.way(
                partial(self._runner, field, model, len(trial.LENGTHS), longest),
                model.vocabulary,
                widths,
                f"engine.{field}",
            )
            for field, (model, widths) in tried.items()
            if model is not None
        }

    def padding(self) -> int | None:
        return getattr(self.models.tokenizer, "pad_token_id", None)

    def token_texts(self, tokens: Sequence[int]) -> list[str]:
        stream = TextStream(self.models.tokenizer)
        return [stream.take() for token in tokens if stream.push([token])]

    def start(self, request: Request) -> BatchDecoding:
        models, options = self.models, request.options
        if options.sampling == "model":
            raise InputError("generate.sampling: a GGUF file says nothing of it; set temperature and top_p instead.")
        longest = min(self.context or models.target.context, models.target.context)
        prompts = encoded(request.prompts, models.tokenizer, models.target.vocabulary, longest)
        sequences = open_sequences(
            prompts, options, models.tokenizer, longest, lambda prompt, room: request.logits_processor
        )
        rows = min(request.rows, int(models.target.llama.llama_max_parallel_sequences()))
        capacity = max(len(sequence.prompt) + sequence.room for sequence in sequences)
        return BatchDecoding(
            replace(request, batch_size=rows),
            sequences,
            target=self._runner("target", models.target, rows, capacity),
            draft=self._draft_source(rows, capacity),
            ends=models.target.ends,
            costs=self._costs,
            device=torch.device("cpu"),
        )

    def _draft_source(self, rows: int, capacity: int) -> DraftSource:
        models = self.models
        if isinstance(self.draft, PromptLookup):
            return LookupDraft(self.draft, models.target.vocabulary)
        return NoDraft() if models.draft is None else ModelDraft(self._runner("draft", models.draft, rows, capacity))

    def _runner(self, field: str, model: GgufModel, rows: int, capacity: int) -> GgufRunner:
        """What runs the target or the draft, with fresh memory of `rows` rows of at most `capacity` tokens."""
        memory = Context(model, rows, capacity, self._settings)
        vocabulary = self.models.target.vocabulary
        return GgufRunner(memory, model.context, rows, vocabulary, model.vocabulary, f"engine.{field}")

    @property
    def _settings(self) -> Settings:
        threads = self.threads or torch.get_num_threads()
        fields = {name: getattr(self, name) for name in Settings.model_fields}
        return Settings(**fields | {"threads": threads})
