"""The text is what the tokenizer decodes, piece by piece and without a lost character, up to a stop string."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from stopkit import InputError
from stopkit_engines.batch.text import UNFINISHED, TextStream, respaces

CORPUS = ["do n't stop , it 's what we 've said . naïve 🙂 day", "  two  spaces\n\ttabs € 日本語 !"]
END = "<|end|>"


def _byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet))
    return tokenizer


def _byte_fallback() -> Tokenizer:
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁do", "n", "'", "t", "▁stop", "ï", "a", "."]
    tokenizer = Tokenizer(models.BPE({piece: at for at, piece in enumerate(pieces)}, [], unk_token="<unk>"))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def _word_piece() -> Tokenizer:
    words = ["[UNK]", "do", "n", "'", "t", "##n", "##t", "s", "it", ",", ".", "!", "?", "ve", "re", "m", "##ing", "not"]
    tokenizer = Tokenizer(models.WordPiece({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _word_level() -> Tokenizer:
    words = ["[UNK]", "do", "n't", "'", "s", "it", ",", ".", "!", "'ve", "not"]
    return Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))


def _unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("▁do", -1.0), ("n", -1.0), ("▁", -1.0), ("é", -2.0)], 0))
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def _suffixes() -> Tokenizer:
    pieces = ["a", "b</w>", "n't</w>", ".</w>", "é", "</w>"]
    tokenizer = Tokenizer(models.BPE({piece: at for at, piece in enumerate(pieces)}, [], end_of_word_suffix="</w>"))
    tokenizer.decoder = decoders.BPEDecoder()
    return tokenizer


def _fast(base: Tokenizer, **options: Any) -> PreTrainedTokenizerFast:
    base.add_special_tokens([END])
    return PreTrainedTokenizerFast(tokenizer_object=base, **options)


TOKENIZERS = {
    "byte-level BPE": _fast(_byte_level()),
    "byte-level BPE, said to clean up": _fast(_byte_level(), clean_up_tokenization_spaces=True),
    "BPE with bytes to fall back on": _fast(_byte_fallback()),
    "WordPiece": _fast(_word_piece()),
    "words, cleaned up": _fast(_word_level(), clean_up_tokenization_spaces=True),
    "words": _fast(_word_level(), clean_up_tokenization_spaces=False),
    "unigram": _fast(_unigram()),
    "BPE with suffixes": _fast(_suffixes()),
}
RESPACING = {"WordPiece", "words, cleaned up"}
names = st.sampled_from(list(TOKENIZERS))


def decoded(tokenizer: Any, tokens: list[int]) -> str:
    return str(tokenizer.decode(tokens, skip_special_tokens=True))


def streamed(stream: TextStream, tokens: list[int], sizes: list[int]) -> tuple[str, int]:
    """All pieces together, and how many tokens were kept, when `tokens` come in chunks of `sizes`."""
    pieces, kept, sizes = [], 0, [*sizes]
    while kept < len(tokens) and not stream.stopped:
        chunk = tokens[kept : kept + (sizes.pop() if sizes else 1)]
        kept += stream.push(chunk)
        pieces.append(stream.take())
    pieces.append(stream.take(last=True))
    return "".join(pieces), kept


def drawn(data: st.DataObject, tokenizer: Any) -> list[int]:
    return data.draw(st.lists(st.integers(0, len(tokenizer) - 1), min_size=1, max_size=24))


def test_only_those_respace_that_do() -> None:
    assert {name for name, tokenizer in TOKENIZERS.items() if respaces(tokenizer)} == RESPACING


@settings(max_examples=300)
@given(name=names, data=st.data(), sizes=st.lists(st.integers(1, 6), max_size=8))
def test_pieces_are_the_decoded_text(name: str, data: st.DataObject, sizes: list[int]) -> None:
    tokenizer = TOKENIZERS[name]
    tokens = drawn(data, tokenizer)
    stream = TextStream(tokenizer)
    assert streamed(stream, tokens, sizes) == (decoded(tokenizer, tokens), len(tokens))
    assert stream.text == decoded(tokenizer, tokens)


@settings(max_examples=300)
@given(name=names, data=st.data(), sizes=st.lists(st.integers(1, 6), max_size=8))
def test_a_stop_string_ends_the_text_at_the_first_token_that_completes_it(
    name: str, data: st.DataObject, sizes: list[int]
) -> None:
    tokenizer = TOKENIZERS[name]
    tokens = drawn(data, tokenizer)
    whole = decoded(tokenizer, tokens).rstrip(UNFINISHED)
    begin = data.draw(st.integers(0, max(0, len(whole) - 1)))
    stop = whole[begin : begin + data.draw(st.integers(1, 4))].replace(UNFINISHED, "") or "never"
    texts = [decoded(tokenizer, tokens[:count]).rstrip(UNFINISHED) for count in range(1, len(tokens) + 1)]
    kept = next((count for count, text in enumerate(texts, start=1) if stop in text), None)
    stream = TextStream(tokenizer, [stop])
    if kept is None:
        assert streamed(stream, tokens, sizes) == (decoded(tokenizer, tokens), len(tokens))
        assert not stream.stopped
    else:
        text = texts[kept - 1]
        assert streamed(stream, tokens, sizes) == (text[: text.find(stop)], kept)
        assert stream.stopped


@settings(max_examples=50)
@given(name=names, data=st.data())
@example(name="WordPiece", data=None)
def test_a_special_token_stops_the_text(name: str, data: st.DataObject | None) -> None:
    tokenizer = TOKENIZERS[name]
    end = tokenizer.convert_tokens_to_ids(END)
    before = [token for token in drawn(data, tokenizer) if token != end] if data else [1, 2]
    stream = TextStream(tokenizer, ["never", END])
    assert streamed(stream, [*before, end, 1], []) == (decoded(tokenizer, before), len(before) + 1)


def test_a_special_token_among_text_is_refused() -> None:
    with pytest.raises(InputError, match=r"generate\.stop: '\\nx<\|end\|>' holds the special token '<\|end\|>'"):
        TextStream(TOKENIZERS["WordPiece"], [f"\nx{END}"])
