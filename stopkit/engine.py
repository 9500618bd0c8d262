"""The engine interface: how a policy's decisions become tokens."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor

from stopkit.costs import FixedCosts
from stopkit.decode import Generation
from stopkit.decoding import Decoding
from stopkit.errors import InputError, shown
from stopkit.generation import GenerationOptions, GenerationResult, Piece, Request
from stopkit.kinds import Kind
from stopkit.policy import StoppingPolicy, Verbs
from stopkit.prompt_kinds import as_chats, as_prompts, is_whole
from stopkit.random import RandomSource
from stopkit.spec import load_policy
from stopkit.state import State
from stopkit.validation import validated


class Engine(Kind, ABC):
    """Makes tokens with a target and a draft model. Fields are its config block; `kind` is its name there."""

    section: ClassVar[str] = "engine"
    enumerable: ClassVar[bool] = True
    """Whether every random choice goes through `Request.random` where one is given."""

    in_checks: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """Fields that the checks set, which make engines over hundreds of small models."""

    costs: FixedCosts | None = Field(default=None, description="fixed seconds a step, instead of measured ones")

    @classmethod
    @abstractmethod
    def from_models(cls, target: Any, draft: Any | None = None, tokenizer: Any | None = None, **fields: Any) -> Self:
        """An engine over models that are loaded already; without a tokenizer prompts are token ids."""

    def start(self, request: Request) -> Decoding:
        """Begin what the one loop is to decode. Raises InputError for prompts or options that it cannot serve.

        An engine overrides this, or `run` if it has a loop of its own.
        """
        raise InputError(f"engine.kind: {self.kind} decodes in a loop of its own, and cannot be stepped.")

    def verbs(self, policy: StoppingPolicy, request: Request) -> Verbs:
        """The policy's verbs, in the form in which a generation is to call them."""
        return policy

    def run(self, policy: StoppingPolicy, request: Request) -> GenerationResult:
        """Serve a request that has been validated."""
        return self._generation(policy, request).run()

    def trial_of_models(self) -> dict[str, str]:
        """Try the engine's models, and tell by the names of their fields how each is run.

        Raises InputError if one of them cannot be run exactly, or if the engine has no trial.
        """
        raise InputError(f"engine.kind: {self.kind} has no trial of its models.")

    def ready(self) -> bool:
        """Whether it can begin as soon as its models are loaded, with nothing to prepare that takes minutes."""
        return True

    def loaded(self) -> dict[str, Any]:
        """What was made of fields that leave a choice, such as a dtype of auto; nothing before models are loaded."""
        return {}

    def padding(self) -> int | None:
        """The token that pads prompts, if there is one."""
        return None

    def token_texts(self, tokens: Sequence[int]) -> list[str]:
        """What each token adds to the text of `tokens`, for display; "" while a character is unfinished or unknown."""
        return [""] * len(tokens)

    def generate(
        self,
        prompts: Any,
        policy: StoppingPolicy | str | dict[str, Any],
        *,
        batch_size: int | None = None,
        seeds: Sequence[int] | None = None,
        random: RandomSource | None = None,
        logits_processor: Sequence[Callable[[Tensor, Tensor], Tensor]] = (),
        on_piece: Callable[[Piece], None] | None = None,
        state: State | None = None,
        **options: Any,
    ) -> GenerationResult:
        """Continue `prompts`. `options` are the fields of GenerationOptions.

        A prompt is text, token ids, or chat messages, which go through the model's template. There may be one or
        several, also as a tensor or as what a tokenizer returns, where its attention mask leaves out the padding.
        All prompts decode side by side, or `batch_size` of them at a time: whenever one is done, the next takes its
        place. The output's distribution is the target's own whatever the policy. A sequence's output depends on its
        prompt and seed, not on its neighbours, unless the policy couples them. `state` goes on from an earlier
        result's: sequence by sequence if there are as many prompts, else with what its sequences shared.

        Raises InputError for bad input and GenerationError when the target or the policy fails. Whatever stops a
        generation, an interrupt included, carries the result so far in its `partial` attribute.
        """
        return self.run(
            *_asked(
                self,
                prompts,
                policy,
                options,
                batch_size=batch_size,
                seeds=seeds,
                random=random,
                logits_processor=logits_processor,
                on_piece=on_piece,
                state=state,
            )
        )

    def chat(self, messages: Any, policy: StoppingPolicy | str | dict[str, Any], **asked: Any) -> GenerationResult:
        """Answer chat messages, each with a role and its content, or several conversations; `asked` as in `generate`.

        They go through the model's own template. If the last message is the assistant's, the answer goes on with it.
        Raises InputError for what is no chat, and where the tokenizer has no template.
        """
        return self.generate(as_chats(messages), policy, **asked)

    def begin(self, prompts: Any, policy: StoppingPolicy | str | dict[str, Any], **asked: Any) -> Generation:
        """The same generation, to be run round by round: `step()` until it is `finished`. `asked` is as in `generate`.

        Raises InputError for bad input, or if the engine has a loop of its own.
        """
        named = {name: asked.pop(name) for name in REQUEST if name in asked}
        return self._generation(*_asked(self, prompts, policy, asked, **named))

    @torch.inference_mode()
    def _generation(self, policy: StoppingPolicy, request: Request) -> Generation:
        return Generation(policy, self.start(request), request.state, self.verbs(policy, request))


def _holds(is_right: Callable[[Any], bool], value: Any) -> bool:
    try:
        return is_right(value)
    except TypeError:  # it asks for elements, and there are none
        return False


REQUEST: dict[str, tuple[Callable[[Any], bool], str]] = {
    "batch_size": (lambda given: is_whole(given) and given >= 1, "a whole number of prompts above 0"),
    "seeds": (
        lambda given: all(is_whole(seed) and -(1 << 63) <= seed < 1 << 63 for seed in given),
        "a whole number of 64 bits for each prompt",
    ),
    "random": (lambda given: isinstance(given, RandomSource), "a RandomSource"),
    "logits_processor": (lambda given: all(map(callable, given)), "a list of functions of token ids and scores"),
    "on_piece": (callable, "a function of a Piece"),
    "state": (lambda given: isinstance(given, State), "the state of an earlier result"),
}
"""What `generate` takes besides the fields of GenerationOptions: whether a value is right, and what would be."""


def _asked(
    engine: Engine, prompts: Any, policy: Any, options: dict[str, Any], **named: Any
) -> tuple[StoppingPolicy, Request]:
    """The policy and the request. Raises InputError for what is wrong in them whatever the engine."""
    chosen = load_policy(policy)
    batch = as_prompts(prompts, engine.padding)
    for name, value in named.items():
        is_right, right = REQUEST[name]
        if value is not None and not _holds(is_right, value):
            raise InputError(f"{name}: {shown(value)} is no such thing; give {right}.")
    seeds = named.get("seeds")
    if seeds is not None and len(seeds) != len(batch):
        raise InputError(f"seeds: {len(seeds)} for {len(batch)} prompts; give one for each.")
    return chosen, Request(
        prompts=batch,
        options=validated(GenerationOptions, options, "generate"),
        signals=chosen.required_signals,
        context=chosen.required_context,
        **named,
    )
