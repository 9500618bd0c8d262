"""The engine interface: how a policy's decisions become tokens."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor

from stopkit.costs import FixedCosts
from stopkit.decode import decode
from stopkit.decoding import Decoding
from stopkit.errors import InputError
from stopkit.generation import GenerationOptions, GenerationResult, Piece, Prompt, Request
from stopkit.kinds import Kind
from stopkit.policy import StoppingPolicy
from stopkit.random import RandomSource
from stopkit.spec import load_policy
from stopkit.state import State
from stopkit.validation import validated


class Engine(Kind, ABC):
    """Makes tokens with a target and a draft model. Fields are its config block; `kind` is its name there."""

    section: ClassVar[str] = "engine"
    enumerable: ClassVar[bool] = True
    """Whether every random choice goes through `Request.random` where one is given."""

    costs: FixedCosts | None = Field(default=None, description="fixed seconds a step, instead of measured ones")

    @classmethod
    @abstractmethod
    def from_models(cls, target: Any, draft: Any | None = None, tokenizer: Any | None = None, **fields: Any) -> Self:
        """An engine over models that are loaded already; without a tokenizer prompts are token ids."""

    @abstractmethod
    def start(self, request: Request) -> Decoding:
        """Begin a batch. Raises InputError for prompts or options that it cannot serve."""

    def token_texts(self, tokens: Sequence[int]) -> list[str]:
        """What each token adds to the text of `tokens`, for display; "" while a character is unfinished or unknown."""
        return [""] * len(tokens)

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        policy: "StoppingPolicy | str | dict[str, Any]",
        *,
        seeds: Sequence[int] | None = None,
        random: RandomSource | None = None,
        logits_processor: Sequence[Callable[[Tensor, Tensor], Tensor]] = (),
        on_piece: Callable[[Piece], None] | None = None,
        state: State | None = None,
        **options: Any,
    ) -> GenerationResult:
        """Continue `prompts`, one batch side by side. `options` are the fields of GenerationOptions.

        The output's distribution is the target's own whatever the policy. A sequence's output depends on its prompt
        and seed, not on its neighbours, unless the policy couples them. `state` goes on from an earlier result's: row
        by row if there are as many prompts, else with what its sequences shared.

        Raises InputError for bad input and GenerationError when the target or the policy fails. Whatever stops a
        generation, an interrupt included, carries the result so far in its `partial` attribute.
        """
        chosen = load_policy(policy)
        batch = [prompts] if _is_one(prompts) else list(prompts)
        if not batch:
            raise InputError("prompts: there is none; give at least one.")
        if seeds is not None and len(seeds) != len(batch):
            raise InputError(f"seeds: {len(seeds)} for {len(batch)} prompts; give one for each.")
        request = Request(
            prompts=batch,  # type: ignore[arg-type]
            options=validated(GenerationOptions, options, "generate"),
            seeds=seeds,
            random=random,
            logits_processor=logits_processor,
            signals=chosen.required_signals,
            on_piece=on_piece,
        )
        with torch.inference_mode():
            decoding = self.start(request)
            return decoding.result(decode(chosen, decoding, state))


def _is_one(prompts: Any) -> bool:
    return isinstance(prompts, str) or (len(prompts) > 0 and isinstance(prompts[0], int))
