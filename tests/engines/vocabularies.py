"""Small tokenizers of both conventions, trained on a few lines."""

import json
from functools import cache
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from stopkit.pair.tokenizer import train_tokenizer

LINES = [
    "def add(a, b):\n    return a + b\n",
    "for item in items:\n    print(item, end='')\n",
    "The quick brown fox jumps over the lazy dog, and naïve café owners in Größe agree.\n",
    "She said that nobody else had seen the number of values in the list before.\n",
]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


@cache
def byte_level(size: int = 420) -> PreTrainedTokenizerFast:
    """Of the kind of Llama 3 and Qwen; it puts nothing before a text."""
    return train_tokenizer(LINES * 3, size, 512)


@cache
def sentencepiece(prefix: bool = False) -> PreTrainedTokenizerFast:
    """Of the kind of Gemma, or with a `prefix` space before a text of Llama 2; with bytes for rare letters."""
    learned = Tokenizer(models.BPE())
    learned.normalizer = normalizers.Replace(" ", "▁")
    learned.pre_tokenizer = pre_tokenizers.Split(Regex("▁"), "merged_with_next")
    alphabet = sorted({*"".join(LINES)} - {*"ïöß"} | {"▁"})
    trainer = trainers.BpeTrainer(
        vocab_size=160, initial_alphabet=alphabet, limit_alphabet=len(alphabet), show_progress=False
    )
    learned.train_from_iterator(LINES * 3, trainer)
    tree = json.loads(learned.to_str())
    names = ["<pad>", "<eos>", "<bos>", "<unk>", *BYTES, *tree["model"]["vocab"]]
    backend = Tokenizer(
        models.BPE(
            vocab={name: index for index, name in enumerate(names)},
            merges=[tuple(merge) for merge in tree["model"]["merges"]],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    replaced = normalizers.Replace(" ", "▁")
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replaced]) if prefix else replaced
    spaces: list[Any] = [decoders.Strip(" ", 1, 0)] if prefix else []
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *spaces])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )
    tokenizer.backend_tokenizer.post_processor = _begin(tokenizer.bos_token_id)
    return tokenizer


def _begin(index: int) -> Any:
    from tokenizers.processors import TemplateProcessing

    return TemplateProcessing(single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", index)])
