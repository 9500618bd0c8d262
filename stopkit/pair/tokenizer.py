"""The pair's tokenizer: byte-level byte-pair encoding, one special token that ends a document."""

from collections.abc import Iterable

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"


def train_tokenizer(texts: Iterable[str], vocabulary: int, context: int) -> PreTrainedTokenizerFast:
    """Learn `vocabulary` tokens from `texts`; any text can be encoded, because every byte is a token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
        model_max_length=context,
    )


def encode_documents(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> Tensor:
    """All documents as one 1-D long tensor, the end-of-text token before each."""
    encoded = tokenizer.backend_tokenizer.encode_batch(list(texts))
    tokens = [token for document in encoded for token in (tokenizer.eos_token_id, *document.ids)]
    return torch.tensor(tokens, dtype=torch.long)
