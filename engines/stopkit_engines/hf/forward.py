"""`Forward`: one call of a transformers model, whatever its forward names its arguments, and what is known of it."""

import inspect
import sys
from typing import Any

from torch import Tensor

from stopkit_engines.batch.runner import Scores, fitted

CACHE_ARGUMENTS = ("cache", "past_key_values", "cache_params")
"""What forwards call the cache; the first is the name since transformers 5.24."""
CONTEXTS = ("max_position_embeddings", "max_seq_len")
"""What configs call the most tokens that a sequence can have; the second is MPT's."""


class Forward:
    """Calls `model`, and counts it.

    Models of one tokenizer may pad their embeddings and heads differently. Logits are cut, or padded with -inf, to
    `vocabulary` entries; a token that the model has no embedding of is read as its last one, which costs a draft model
    some acceptance and nothing else.
    """

    def __init__(self, model: Any, vocabulary: int) -> None:
        self.model = model
        self.count = 0
        self._vocabulary = vocabulary
        self._last_token = vocabulary_size(model) - 1
        named = inspect.signature(model.forward).parameters
        if wrapped := "input_ids" not in named:
            named = inspect.signature(type(model).forward).parameters
        self.cache_argument = next(
            (name for name in CACHE_ARGUMENTS if name in named), CACHE_ARGUMENTS[1] if wrapped else None
        )
        """What the forward calls the cache; None if it takes none."""
        self._takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in named.values())
        self._named = frozenset(named)
        # Routers' losses are for training, and cannot be computed under a prepared mask.
        self._fixed: dict[str, Any] = {"use_cache": True}
        if getattr(model.config.get_text_config(), "output_router_logits", False):
            self._fixed["output_router_logits"] = False

    def names(self, argument: str) -> bool:
        """Whether the forward has an argument of that name, and not only takes any."""
        return argument in self._named

    def __call__(self, tokens: Tensor, cache: Any, keep: int, hidden: bool = False, **inputs: Any) -> Scores:
        """The scores of the last `keep` of `tokens` [B, W], of all if it is 0; only some models take the `inputs`."""
        inputs |= self._fixed | {"logits_to_keep": keep, "output_hidden_states": hidden}
        if not self._takes_any:
            inputs = {name: value for name, value in inputs.items() if name in self._named}
        if self._last_token < self._vocabulary - 1:
            tokens = tokens.clamp(max=self._last_token)
        output = self.model(input_ids=tokens, **inputs, **{str(self.cache_argument): cache})
        self.count += 1
        return Scores(
            fitted(output.logits[:, -keep:], self._vocabulary), output.hidden_states[-1][:, -keep:] if hidden else None
        )


def vocabulary_size(model: Any) -> int:
    """How many tokens `model` can read."""
    try:
        return int(model.get_input_embeddings().weight.shape[0])
    except (AttributeError, NotImplementedError):
        return int(model.config.get_text_config().vocab_size)


def context_length(model: Any) -> int:
    """The most tokens a sequence of `model` can have."""
    config = model.config.get_text_config()
    lengths = (getattr(config, name, None) for name in CONTEXTS)
    return next((length for length in lengths if isinstance(length, int) and length > 0), sys.maxsize)
