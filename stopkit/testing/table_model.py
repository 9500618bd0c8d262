"""`TableModel`: a causal language model given by a table, with the transformers interface.

It keeps its context in the cache that it is handed: token ids go in as values, and come back through the attention
mask. A cache that was rolled back wrongly, a mask that shows too much or a position that is off changes the logits, so
that such a mistake is a wrong distribution in a model of three tokens and not only noise in a real one.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_outputs import CausalLMOutputWithPast


class TableConfig(PreTrainedConfig):  # type: ignore[misc]
    """Sizes of a `TableModel`: a logit for every (phase, last `order` tokens, next token)."""

    model_type = "stopkit_table"

    def __init__(
        self, vocab_size: int = 2, order: int = 1, phases: int = 1, max_position_embeddings: int = 64, **rest: Any
    ) -> None:
        self.vocab_size = vocab_size
        self.order = order
        self.phases = phases
        self.max_position_embeddings = max_position_embeddings
        self.num_hidden_layers = 1
        self.num_attention_heads = 1
        self.hidden_size = vocab_size
        super().__init__(**rest)


class TableModel(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """`logits`: [phases, (V + 1) ** order, V]; a context is the last `order` tokens in base V + 1, 0 for "none".

    The phase is (position + visible tokens) modulo `phases`, so that both a wrong position and a wrong mask show.
    """

    config_class = TableConfig
    main_input_name = "input_ids"
    _supports_cache_class = True

    def __init__(self, config: TableConfig, logits: Tensor | None = None) -> None:
        super().__init__(config)
        shape = (config.phases, (config.vocab_size + 1) ** config.order, config.vocab_size)
        table = torch.zeros(shape, dtype=torch.float64) if logits is None else logits.view(shape)
        self.table = torch.nn.Parameter(table, requires_grad=False)
        self.eval()

    @classmethod
    def from_logits(
        cls, logits: Tensor, order: int = 1, end_of_sequence: int | None = None, context: int = 64
    ) -> "TableModel":
        """A model of `logits` [V], [contexts, V] or [phases, contexts, V]; computes in their dtype."""
        table = logits.view(-1, *logits.shape[-2:]) if logits.ndim > 1 else logits.expand(len(logits) + 1, -1)[None]
        config = TableConfig(
            vocab_size=table.shape[-1],
            order=order,
            phases=table.shape[0],
            max_position_embeddings=context,
            eos_token_id=end_of_sequence,
            bos_token_id=None,
            pad_token_id=None,
        )
        return cls(config, table.contiguous())

    @classmethod
    def random(
        cls,
        vocabulary: int,
        generator: torch.Generator,
        order: int = 2,
        phases: int = 3,
        scale: float = 2.0,
        **options: Any,
    ) -> "TableModel":
        """Normally distributed float64 logits; `scale` is their standard deviation."""
        shape = (phases, (vocabulary + 1) ** order, vocabulary)
        logits = scale * torch.randn(shape, dtype=torch.float64, generator=generator)
        return cls.from_logits(logits, order=order, **options)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        logits_to_keep: int = 0,
        output_hidden_states: bool = False,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """As transformers defines it; `attention_mask` is additive [B, 1, W, S], [B, S], or None for plain causal."""
        width = input_ids.shape[1]
        cache = DynamicCache(config=self.config) if past_key_values is None else past_key_values
        seen = cache.get_seq_length() if position_ids is None else 0
        if position_ids is None:
            position_ids = torch.arange(seen, seen + width, device=input_ids.device).expand(len(input_ids), -1)
        states = (input_ids + 1).to(self.table.dtype)[:, None, :, None]
        _, stored = cache.update(states, states, 0)
        tokens = stored[:, 0, :, 0].long()
        visible = _visible(attention_mask, width, tokens)
        last = self._context(tokens, visible)
        phase = (position_ids + visible.sum(-1)) % self.config.phases
        logits = self.table[phase, last][:, -logits_to_keep:]
        hidden = (torch.nn.functional.one_hot(input_ids, self.config.vocab_size).to(logits.dtype),)
        return CausalLMOutputWithPast(
            logits=logits, past_key_values=cache, hidden_states=hidden if output_hidden_states else None
        )

    def _context(self, tokens: Tensor, visible: Tensor) -> Tensor:
        """Table index [B, W] of the last `order` tokens that each query sees."""
        from_last = visible.flip(-1).cumsum(-1).flip(-1) * visible
        index = torch.zeros_like(from_last[..., 0])
        for age in range(self.config.order, 0, -1):
            token = ((from_last == age) * tokens.unsqueeze(1)).sum(-1)
            index = index * (self.config.vocab_size + 1) + token
        return index


def _visible(mask: Tensor | None, width: int, tokens: Tensor) -> Tensor:
    """Which of the S stored tokens each of the W queries sees, bool [B, W, S]."""
    if mask is not None and mask.ndim == 4:
        return mask[:, 0] == 0 if mask.dtype != torch.bool else mask[:, 0]
    stored = tokens.shape[1]
    causal = torch.ones(width, stored, dtype=torch.bool, device=tokens.device).tril(stored - width)
    return causal.expand(len(tokens), -1, -1) if mask is None else causal & mask[:, None, :].bool()
