"""A causal language model with its ragged cache: one padded forward consumes whatever each row has pending."""

import inspect
import sys
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from stopkit_engines.batch.runner import Scores
from stopkit_engines.hf.cache import RaggedCache


class CachedModel:
    """A `Runner`: `model` over a token buffer that it shares with others.

    Its logits are cut or padded (with -inf) to `vocabulary` entries: models of one tokenizer may pad their heads
    differently.
    """

    def __init__(self, model: Any, vocabulary: int, batch_size: int, capacity: int, device: torch.device) -> None:
        self.model = model
        self.context = context_length(model)
        self.forwards = 0
        named = inspect.signature(model.forward).parameters
        self._cache_argument = "cache" if "cache" in named else "past_key_values"  # its name before transformers 5.24
        self._vocabulary = vocabulary
        self.filled = torch.zeros(batch_size, dtype=torch.long, device=device)
        self.width = 0
        self._cache = RaggedCache(model.config.get_text_config().num_hidden_layers, batch_size, capacity, device)
        self._slots = torch.arange(capacity, device=device)
        self._lowest = torch.finfo(model.dtype).min
        self._none = torch.zeros((), dtype=model.dtype, device=device)

    def forward(self, tokens: Tensor, end: Tensor, keep: int, hidden: bool = False) -> Scores:
        """See each row of `tokens` [B, L] up to `end` [B]; rows with nothing pending pass through as padding.

        Rows end in the last column, so their last `keep` positions are the last `keep` columns.
        """
        self.width, used = torch.stack([(end - self.filled).amax(), end.amax()]).tolist()
        places = end.unsqueeze(1) + torch.arange(-self.width, 0, device=end.device)
        positions = places.clamp(min=0)
        slots = places.where(places >= self.filled.unsqueeze(1), self._cache.spare)
        visible = self._slots[:used] <= positions.view(*positions.shape, 1)
        scores = self.see(tokens.gather(1, positions), slots, positions, visible, keep, hidden)
        self.filled = end
        return scores

    def see(
        self, tokens: Tensor, slots: Tensor, positions: Tensor, visible: Tensor, keep: int, hidden: bool = False
    ) -> Scores:
        """One forward over `tokens` [B, W] at `positions` [B, W], kept in `slots` [B, W].

        Each sees the slots that `visible` [B, W, S] says of the first S, its own included.
        """
        self._cache.point(slots, visible.shape[-1])
        output = self.model(
            input_ids=tokens,
            attention_mask=self._none.where(visible, self._lowest).unsqueeze(1),
            position_ids=positions,
            use_cache=True,
            logits_to_keep=keep,
            output_hidden_states=hidden,
            **{self._cache_argument: self._cache},
        )
        self.forwards += 1
        return Scores(self._fit(output.logits[:, -keep:]), output.hidden_states[-1][:, -keep:] if hidden else None)

    def _fit(self, logits: Tensor) -> Tensor:
        missing = self._vocabulary - logits.shape[-1]
        return functional.pad(logits, (0, missing), value=-torch.inf) if missing else logits

    def rewind(self, agreed: Tensor) -> None:
        """Forget what was seen past `agreed` [B]."""
        self.filled = torch.minimum(self.filled, agreed)


def context_length(model: Any) -> int:
    """The most tokens a sequence of `model` can have."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None) or sys.maxsize
