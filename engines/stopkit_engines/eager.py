"""`eager`: transformers models run one forward at a time, on a CPU or a GPU."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, PrivateAttr

from stopkit.costs import CostModel
from stopkit.engine import Engine
from stopkit.errors import InputError
from stopkit.generation import Prompt, Request
from stopkit.random import SeededRandomSource, sequence_seeds
from stopkit.trace.recorder import Identity, Recorder, RecordingRequest, Rollouts, Timings
from stopkit.validation import validated
from stopkit_engines.batch.decoding import EagerDecoding
from stopkit_engines.batch.rows import Row
from stopkit_engines.batch.text import TextStream
from stopkit_engines.hf import identity, loading, timing
from stopkit_engines.hf.cache import require_rollback
from stopkit_engines.hf.cached_model import CachedModel, context_length
from stopkit_engines.hf.recorder import EagerRecorder


@dataclass(frozen=True)
class Models:
    """Loaded models and their tokenizer; without one, prompts are token ids."""

    target: Any
    draft: Any | None
    tokenizer: Any | None


class EagerEngine(Engine, Recorder):
    """Hugging Face transformers causal language models, in eager mode. Any batch, any prompts, any policy."""

    kind: ClassVar[str] = "eager"

    target: str = Field(
        default="bundled:target", description="the model whose output is wanted: a folder, a hub id or bundled:target"
    )
    draft: str | None = Field(
        default="bundled:draft", description="the model that drafts: likewise; unset, nothing can be drafted"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="where to run; auto prefers CUDA")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="weights and activations; auto is float32 on a CPU, the checkpoint's on a GPU"
    )

    _models: Models | None = PrivateAttr(default=None)
    _costs: CostModel = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        self._costs = CostModel(self.costs)

    @classmethod
    def from_models(cls, target: Any, draft: Any | None = None, tokenizer: Any | None = None, **fields: Any) -> Self:
        for model in filter(None, (target, draft)):
            require_rollback(model.config.get_text_config(), type(model).__name__)
        if draft is not None:
            loading.require_same_vocabulary(target, draft)
        names = {"target": type(target).__name__, "draft": type(draft).__name__ if draft is not None else None}
        engine = validated(cls, names | fields, "engine")
        engine._models = Models(target, draft, tokenizer)
        return engine

    @property
    def models(self) -> Models:
        """The loaded models; the first use loads them."""
        if self._models is None:
            self._models = self._load()
        return self._models

    def _load(self) -> Models:
        device = loading.resolve_device(self.device)
        tokenizer = loading.load_tokenizer(self.target, "engine.target")
        if self.draft is not None:
            drafts = loading.load_tokenizer(self.draft, "engine.draft")
            loading.require_same_tokens(tokenizer, drafts, f"engine.draft: {self.draft}")
        target = loading.load_model(self.target, device, self.dtype, "engine.target")
        draft = loading.load_model(self.draft, device, self.dtype, "engine.draft") if self.draft else None
        return Models(target, draft, tokenizer)

    def token_texts(self, tokens: Sequence[int]) -> list[str]:
        stream = TextStream(self.models.tokenizer)
        return [stream.take() for token in tokens if stream.push([token])]

    def start(self, request: Request) -> EagerDecoding:
        models, options = self.models, request.options
        if options.stop and models.tokenizer is None:
            raise InputError("generate.stop: stop strings need a tokenizer, and this engine was given none.")
        context, vocabulary = context_length(models.target), models.target.config.get_text_config().vocab_size
        prompts = self._encoded(request.prompts)
        rows = [
            Row(
                prompt=len(prompt),
                room=min(options.max_new_tokens, context - len(prompt)),
                cramped=context - len(prompt) < options.max_new_tokens,
                stream=TextStream(models.tokenizer, options.stop),
            )
            for prompt in prompts
        ]
        device, count = models.target.device, len(rows)
        capacity = max(row.prompt + row.room for row in rows)
        tokens = torch.zeros(count, capacity + 1, dtype=torch.long)
        for buffer, prompt in zip(tokens, prompts, strict=True):
            buffer[: len(prompt)] = torch.tensor(prompt)
        shape = (vocabulary, count, capacity, device)
        seeds = request.seeds or sequence_seeds(options.seed, count)
        return EagerDecoding(
            target=CachedModel(models.target, *shape),
            draft=CachedModel(models.draft, *shape) if models.draft is not None else None,
            tokens=tokens.to(device),
            rows=rows,
            request=request,
            random=request.random or SeededRandomSource(seeds, device),
            ends=loading.end_of_sequence(models.target),
            costs=self._costs,
        )

    def record(self, request: RecordingRequest) -> Iterator[Rollouts]:
        models, most = self._pair(), request.options.max_new_tokens
        prompts, context = self._encoded(request.prompts), context_length(models.target)
        rooms = [min(most, context - len(prompt)) for prompt in prompts]
        ends = loading.end_of_sequence(models.target)
        return EagerRecorder(models.target, models.draft, ends, request).record(prompts, rooms)

    def identity(self) -> Identity:
        models = self._pair()
        return Identity(
            {"name": self.target, **identity.of_model(models.target)},
            {"name": self.draft, **identity.of_model(models.draft)},
            identity.of_tokenizer(models.tokenizer) if models.tokenizer else "",
        )

    def timings(self, max_draft: int, length: int = 128) -> Timings:
        models = self._pair()
        return timing.measure(models.target, models.draft, max_draft, length)

    def _pair(self) -> Models:
        if self.models.draft is None:
            raise InputError("engine.draft: is unset, and a recording needs a model that drafts.")
        return self.models

    def _encoded(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        models = self.models
        context, vocabulary = context_length(models.target), models.target.config.get_text_config().vocab_size
        return [_encode(prompt, index, models.tokenizer, vocabulary, context) for index, prompt in enumerate(prompts)]


def _encode(prompt: Prompt, index: int, tokenizer: Any | None, vocabulary: int, context: int) -> list[int]:
    if not isinstance(prompt, str):
        ids = list(prompt)
    elif tokenizer is None:
        raise InputError(f"prompts[{index}]: is text, and this engine was given no tokenizer; give token ids.")
    else:
        ids = tokenizer(prompt)["input_ids"]
    if not ids:
        raise InputError(f"prompts[{index}]: is empty; give at least one token to continue.")
    if foreign := next((token for token in ids if not 0 <= token < vocabulary), None):
        raise InputError(f"prompts[{index}]: token {foreign} is not in the vocabulary of {vocabulary}.")
    if len(ids) >= context:
        raise InputError(
            f"prompts[{index}]: has {len(ids)} tokens, and the target's context is {context}; "
            f"shorten it to at most {context - 1}."
        )
    return ids
