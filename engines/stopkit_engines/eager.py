"""`eager`: transformers models run one forward at a time, on a CPU or a GPU."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, PrivateAttr

from stopkit.costs import CostModel
from stopkit.coupling import Coupling
from stopkit.decode import Generation
from stopkit.engine import Engine
from stopkit.errors import InputError
from stopkit.generation import Processor, Request
from stopkit.prompt_kinds import Prompt
from stopkit.sampling import Sampling
from stopkit.spec import load_policy
from stopkit.trace.recorder import Identity, Recorder, RecordingRequest, Rollouts, Timings
from stopkit.validation import validated
from stopkit_engines.batch.decoding import BatchDecoding
from stopkit_engines.batch.draft_block import DraftBlock
from stopkit_engines.batch.draft_source import DraftSource, ModelDraft, NoDraft
from stopkit_engines.batch.drafts import DraftSpec
from stopkit_engines.batch.early_exit import EarlyExit
from stopkit_engines.batch.prompt_lookup import LookupDraft, PromptLookup
from stopkit_engines.batch.prompts import encoded
from stopkit_engines.batch.runner import Runner
from stopkit_engines.batch.sequences import BatchSequence, open_sequences
from stopkit_engines.batch.steps import MakeSteps, Steps
from stopkit_engines.batch.text import TextStream
from stopkit_engines.generate.call import Call
from stopkit_engines.generate.costs import costs_of
from stopkit_engines.hf import generation_config, loading, rope, timing
from stopkit_engines.hf.cached_model import CachedModel
from stopkit_engines.hf.devices import AUTO, DeviceName, require_one_place, resolve_device
from stopkit_engines.hf.first_layers import FirstLayers, served_in_short
from stopkit_engines.hf.forward import context_length
from stopkit_engines.hf.packing import is_packed
from stopkit_engines.hf.recorder import EagerRecorder
from stopkit_engines.hf.trial import Served, Trial, served
from stopkit_engines.translation.common import Common, compared
from stopkit_engines.translation.draft import TranslatedDraft


@dataclass(frozen=True)
class Models:
    """Loaded models and their tokenizer; without one, prompts are token ids."""

    target: Any
    draft: Any | None
    tokenizer: Any | None
    served: Mapping[str, Served]
    """The models that there are, as they are run, by the engine's field."""
    common: Common | None = None
    """What a draft with another tokenizer has in common with the target."""

    @property
    def vocabulary(self) -> int:
        """Tokens that the target can say."""
        return vocabulary_of(self.target)

    def vocabulary_of(self, field: str) -> int:
        """Tokens that the model in this field of the engine is to give logits for."""
        return vocabulary_of(self.draft) if field == "draft" and self.common else self.vocabulary

    @property
    def one_tokenizer(self) -> bool:
        """Whether there is a model of its own that drafts, and reads the target's tokens."""
        return "draft" in self.served and self.common is None and not self.served["draft"].of_target


def vocabulary_of(model: Any) -> int:
    """How many tokens a model can say, by its config."""
    return int(model.config.get_text_config().vocab_size)


class EagerEngine(Engine, Recorder):
    """Hugging Face transformers causal language models, in eager mode. Any batch, any prompts, any policy."""

    kind: ClassVar[str] = "eager"

    target: str = Field(
        default="bundled:target",
        description="the model whose output is wanted: a folder, a GGUF file, a hub id or bundled:target",
    )
    draft: DraftSpec = Field(
        default="bundled:draft",
        description="what drafts: a model, likewise, a block with a kind, or KIND:field=value; unset, nothing can be "
        "drafted",
    )
    device: DeviceName = Field(
        default=AUTO, description="where to run: what torch takes, such as cpu or cuda:1; auto prefers CUDA"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="weights and activations; auto is the checkpoint's on a GPU, on a CPU bfloat16 where that is fast "
        "and the checkpoint is in half precision, else float32",
    )
    packed: bool = Field(
        default=True,
        description="on a CPU, lay out the weights of linear layers for its kernels when they are loaded; a head that "
        "is the embedding then takes memory of its own",
    )

    penalties: bool = Field(
        default=True,
        description="apply the penalties and forbidden tokens of the target's generation config, as `generate` does",
    )
    trial: Trial = Field(
        default="once",
        description="try whether a model says with its cache what it says without: once a process for its class and "
        "config, always, or never",
    )

    _models: Models | None = PrivateAttr(default=None)
    _costs: CostModel = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        self._costs = CostModel(self.costs)

    @classmethod
    def from_models(
        cls,
        target: Any,
        draft: Any | None = None,
        tokenizer: Any | None = None,
        draft_tokenizer: Any | None = None,
        **fields: Any,
    ) -> Self:
        block = draft is None or isinstance(draft, (Mapping, DraftBlock))
        drafting = None if block else draft
        names = {"target": type(target).__name__, "draft": draft if block else type(draft).__name__}
        engine = validated(cls, names | fields, "engine")
        engine._models = engine._tried(target, drafting, tokenizer, draft_tokenizer)
        return engine

    @classmethod
    def assisted(
        cls, model: Any, draft: Any | None, tokenizers: tuple[Any, Any], policy: Any, coupling: str, **call: Any
    ) -> Any:
        """Serve transformers' `generate` of `model`: see `stopkit.assisted`. `call` are the fields of a `Call`."""
        asked, chosen = Call(model, **call), load_policy(policy)
        engine = cls.from_models(
            model, draft, *tokenizers, penalties=False
        )  # those are among what `generate` has prepared
        engine._costs = costs_of(model, draft)
        request = asked.request(chosen, coupling)
        sequences = asked.sequences(engine._encoded(request.prompts), context_length(model))
        with torch.inference_mode():
            decoding = engine._decoding(request, sequences, asked.ends, steps=asked.steps)
            generation = Generation(chosen, decoding)
        return asked.answer(generation)

    def over(self, models: Models) -> Self:
        """This engine with models that another one has loaded, from the same names."""
        engine = self.model_copy()
        engine._models = models
        return engine

    @property
    def models(self) -> Models:
        """The loaded models; the first use loads them."""
        if self._models is None:
            with loading.LOCK:
                self._models = self._models or self._load()
        return self._models

    def _load(self) -> Models:
        device = resolve_device(self.device)
        named = {"target": self.target, "draft": self.draft}
        places = {
            field: loading.locate(name, f"engine.{field}") for field, name in named.items() if isinstance(name, str)
        }
        tokenizers = {field: loading.load_tokenizer(place, f"engine.{field}") for field, place in places.items()}
        models = {
            field: loading.load_model(place, device, self.dtype, self._packs, f"engine.{field}")
            for field, place in places.items()
        }
        return self._tried(models["target"], models.get("draft"), tokenizers["target"], tokenizers.get("draft"))

    @property
    def _packs(self) -> bool:
        return self.packed

    def _tried(
        self, target: Any, draft: Any | None, tokenizer: Any | None, draft_tokenizer: Any | None = None
    ) -> Models:
        models = {"target": target} | ({} if draft is None else {"draft": draft})
        require_one_place(models)
        ways = {name: served(model, f"engine.{name}", self.trial) for name, model in models.items()}
        if isinstance(self.draft, EarlyExit):
            ways["draft"] = served_in_short(ways["target"], self.draft.layers, "engine.draft", self.trial)
            draft = ways["draft"].model
        if tokenizer is None or draft_tokenizer is None:
            return Models(target, draft, tokenizer, ways)
        sizes = vocabulary_of(target), vocabulary_of(draft)
        common = compared(tokenizer, draft_tokenizer, sizes, target.device, f"engine.draft: {self.draft}")
        return Models(target, draft, tokenizer, ways, common)

    def trial_of_models(self) -> dict[str, str]:
        models, forced = self.models, self.model_copy(update={"trial": "always"})
        tried = forced._tried(models.target, models.draft, models.tokenizer)
        return {name: each.way.name for name, each in tried.served.items()}

    def loaded(self) -> dict[str, Any]:
        if self._models is None:
            return {}
        served = {name: each.model for name, each in self._models.served.items()}
        return {
            "device": str(self._models.target.device),
            "dtype": {name: str(model.dtype).removeprefix("torch.") for name, model in served.items()},
            "packed": {name: is_packed(model) for name, model in served.items()},
        }

    def padding(self) -> int | None:
        known = (self.models.tokenizer, self.models.target.config.get_text_config())
        pads = (getattr(each, "pad_token_id", None) for each in known if each is not None)
        return next((pad for pad in pads if pad is not None), None)

    def token_texts(self, tokens: Sequence[int]) -> list[str]:
        stream = TextStream(self.models.tokenizer)
        return [stream.take() for token in tokens if stream.push([token])]

    def start(self, request: Request) -> BatchDecoding:
        models = self.models
        options = generation_config.sampled(models.target, request.options)
        sequences = open_sequences(
            self._encoded(request.prompts),
            options,
            models.tokenizer,
            context_length(models.target),
            lambda prompt, room: [*self._penalties(prompt, room), *request.logits_processor],
        )
        ends, undone = loading.end_of_sequence(models.target), generation_config.undone(models.target, options)
        return self._decoding(replace(request, options=options), sequences, ends, undone)

    def _decoding(
        self,
        request: Request,
        sequences: Sequence[BatchSequence],
        ends: Collection[int],
        undone: tuple[str, ...] = (),
        steps: MakeSteps | None = None,
    ) -> BatchDecoding:
        models, device = self.models, self.models.target.device
        lengths, rooms = [len(each.prompt) for each in sequences], [each.room for each in sequences]
        most_rows = self._most_rows(lengths, rooms)
        request = replace(request, batch_size=min(request.rows, most_rows))
        capacity = max(len(sequence.prompt) + sequence.room for sequence in sequences)
        shape = (models.vocabulary, request.rows, capacity, device)
        target = self._runner("target", *shape)
        return BatchDecoding(
            request,
            sequences,
            target=target,
            draft=self._draft_source(target, shape),
            ends=ends,
            costs=self._costs,
            device=device,
            undone=undone,
            steps=steps or partial(self._steps, request.rows),
        )

    def _penalties(self, prompt: Sequence[int], room: int) -> Sequence[Processor]:
        return generation_config.penalties(self.models.target, prompt, room) if self.penalties else ()

    def _draft_source(self, target: Runner, shape: tuple[int, int, int, torch.device]) -> DraftSource:
        models = self.models
        if isinstance(self.draft, PromptLookup):
            return LookupDraft(self.draft, models.vocabulary)
        if isinstance(target, CachedModel) and isinstance(self.draft, EarlyExit):
            return ModelDraft(FirstLayers(models.draft, target))
        if models.common is not None:
            _, rows, _, device = shape
            own = models.vocabulary_of("draft"), rows, context_length(models.draft), device
            return TranslatedDraft(self._runner("draft", *own), models.common)
        return NoDraft() if models.draft is None else ModelDraft(self._runner("draft", *shape))

    def _runner(self, name: str, vocabulary: int, rows: int, capacity: int, device: torch.device) -> Runner:
        """What runs the target or the draft, with a fresh cache for `rows` rows of at most `capacity` tokens."""
        return self.models.served[name].runner(vocabulary, rows, capacity, device)

    def _steps(self, rows: int, sampling: Sampling, coupling: Coupling, signals: Collection[str]) -> Steps:
        """What is computed around the forwards of `rows` rows."""
        return Steps(sampling, coupling, signals)

    def record(self, request: RecordingRequest) -> Iterator[Rollouts]:
        models, most = self._pair(), request.options.max_new_tokens
        prompts, context = self._encoded(request.prompts), context_length(models.target)
        rooms = [min(most, context - len(prompt)) for prompt in prompts]
        if any(self._penalties(prompt, room) for prompt, room in zip(prompts, rooms, strict=True)):
            raise InputError(
                "engine.penalties: a recording cannot apply those of the target's generation config; set it to false."
            )
        for name, each in models.served.items():
            if not each.way.ragged:
                model_type = each.model.config.model_type
                raise InputError(
                    f"engine.{name}: a recording lets many drafts leave one sequence, which this {model_type} model "
                    f"cannot do: it runs as {each.way.name}."
                )
        most_rows = self._most_rows([len(prompt) for prompt in prompts], rooms)
        request = replace(request, batch_size=min(request.batch_size, most_rows))
        ends = loading.end_of_sequence(models.target)
        return EagerRecorder(models.target, models.draft, ends, request).record(prompts, rooms)

    def identity(self) -> Identity:
        models = self._pair()
        return Identity(
            {"name": self.target, **loading.fingerprint(models.target)},
            {"name": str(self.draft), **loading.fingerprint(models.draft)},
            loading.vocabulary_hash(models.tokenizer) if models.tokenizer else "",
        )

    def timings(self, max_draft: int, length: int = 128) -> Timings:
        models = self._pair()
        return timing.measure(models.served["target"], models.served["draft"], max_draft, length)

    def _pair(self) -> Models:
        if self.models.draft is None:
            raise InputError("engine.draft: is unset, or no model, and a recording needs a model that drafts.")
        if self.models.common is not None:
            raise InputError(f"engine.draft: {self.draft}: a recording needs a draft with the target's tokenizer.")
        return self.models

    def _most_rows(self, lengths: Sequence[int], rooms: Sequence[int]) -> int:
        """How many of the sequences can be beside each other; `rooms` is how many tokens each may gain."""
        served = self.models.served
        configs = {name: each.model.config.get_text_config() for name, each in served.items()}
        sides = [rope.sides(config, lengths, rooms, f"engine.{name}") for name, config in configs.items()]
        together = all(each.way.ragged for each in served.values()) and all(len(side) < 2 for side in sides)
        return len(lengths) if together else 1

    def _encoded(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        models = self.models
        return encoded(prompts, models.tokenizer, models.vocabulary, context_length(models.target))
