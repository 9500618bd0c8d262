"""A draft with another tokenizer: it reads what the target says, and proposes what both can say."""

import json
import logging
from copy import deepcopy
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import stopkit
from stopkit import Engine, InputError, load_engine
from stopkit.plugins import registry
from stopkit_engines.eager import EagerEngine
from stopkit_engines.translation.common import Common, compared
from stopkit_engines.translation.draft import TranslatedDraft
from stopkit_engines.translation.reading import Reading
from stopkit_engines.translation.vocabulary import Vocabulary
from tests.engines.test_against_transformers import greedy
from tests.engines.vocabularies import LINES, byte_level, sentencepiece

TOKENIZERS = {
    "byte-level": byte_level,
    "another byte-level": lambda: byte_level(300),
    "gemma": sentencepiece,
    "llama 2": lambda: sentencepiece(prefix=True),
}
PAIRS = [(target, draft) for target in TOKENIZERS for draft in TOKENIZERS if target != draft]
TEXTS = [*LINES, "a naïve Größe — 東京 🙂\n", "  two  spaces   three", "x", "éé", " "]


def common_of(target: str, draft: str) -> Common:
    ours, theirs = (Vocabulary(TOKENIZERS[name](), "engine.draft") for name in (target, draft))
    return Common(ours, theirs, (len(ours.pieces), len(theirs.pieces)))


@pytest.mark.parametrize("name", TOKENIZERS)
def test_pieces_are_the_text(name: str) -> None:
    tokenizer, vocabulary = TOKENIZERS[name](), Vocabulary(TOKENIZERS[name](), "")
    for text in TEXTS:
        said = vocabulary.text(tokenizer(text)["input_ids"]).decode()
        assert said == " " * vocabulary.begins_with_space + text
    assert vocabulary.begins_with_space == (name == "llama 2")
    assert [*vocabulary.beginning] == ([] if "byte" in name else [tokenizer.bos_token_id])
    assert isinstance(vocabulary.pieces[tokenizer.eos_token_id], str)


@pytest.mark.parametrize(("target", "draft"), PAIRS)
def test_common_tokens_are_one_for_one(target: str, draft: str) -> None:
    common = common_of(target, draft)
    pairs = [(ours, theirs) for ours, theirs in enumerate(common.reading) if theirs >= 0]
    assert len({theirs for _, theirs in pairs}) == len(pairs) == common.size > 50
    ends = (common.target.end, common.draft.end)
    assert ends in pairs
    assert all(common.target.pieces[one] == common.draft.pieces[other] for one, other in pairs if (one, other) != ends)
    logits = torch.randn(2, len(common.draft.pieces))
    q = common.in_targets(logits).softmax(-1)
    ours, theirs = (list(each) for each in zip(*pairs, strict=True))
    assert torch.allclose(q[:, ours], logits[:, theirs].softmax(-1), atol=1e-6)
    assert q[:, ours].sum(-1).allclose(torch.ones(2))


@pytest.mark.parametrize(("target", "draft"), PAIRS)
def test_the_draft_reads_what_the_target_says(target: str, draft: str) -> None:
    """Token by token, whatever the target's tokens are; where words begin it is as the draft would write it."""
    common = common_of(target, draft)
    for text in TEXTS:
        said = TOKENIZERS[target]()(text)["input_ids"]
        for start in (1, len(said) // 2):
            reading = Reading(common)
            for end in range(max(1, start), len(said) + 1):
                reading.read(said[:end])
                wanted = common.target.text(said[:end]).removeprefix(b" " * common.target.begins_with_space)
                read = common.draft.text(reading.tokens).removeprefix(b" " * common.draft.begins_with_space)
                assert read == wanted if reading.whole else wanted.startswith(read)
            assert reading.whole
        whole = Reading(common)
        whole.read(said)
        assert whole.tokens == TOKENIZERS[draft]()(text)["input_ids"]


def test_a_row_that_another_sequence_takes_is_read_from_its_beginning() -> None:
    common, one, other = common_of("byte-level", "gemma"), *(byte_level()(text)["input_ids"] for text in LINES[:2])
    reading = Reading(common)
    for said in (one, other, one[:3], one):
        reading.read(said)
        assert reading.tokens == sentencepiece()(byte_level().decode(said))["input_ids"]


def test_little_is_written_anew() -> None:
    """A long text is read on at its last word."""
    common, said = common_of("another byte-level", "gemma"), byte_level(300)("".join(LINES) * 5)["input_ids"]
    lengths: list[int] = []
    written = common.written
    common.written = lambda tokens, first: lengths.append(len(tokens)) or written(tokens, first)  # type: ignore[method-assign]
    reading = Reading(common)
    for end in range(1, len(said) + 1):
        reading.read(said[:end])
    assert max(lengths) < 40


def test_special_tokens_of_a_text_are_those_of_the_draft_or_left_out() -> None:
    common, gemma = common_of("gemma", "byte-level"), sentencepiece()
    said = [
        gemma.bos_token_id,
        *gemma("add", add_special_tokens=False)["input_ids"],
        gemma.eos_token_id,
        gemma.pad_token_id,
    ]
    assert common.written(said, first=True) == ([*byte_level()("add")["input_ids"], byte_level().eos_token_id], True)


def model_of(tokenizer: Any, seed: int) -> Any:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=160, bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(8)
    return model


def engine_of(target: str, draft: str, kind: str = "eager", seed: int = 1) -> Engine:
    ours, theirs = TOKENIZERS[target](), TOKENIZERS[draft]()
    options: dict[str, Any] = {"compile": False} if kind == "compiled" else {}
    return (
        registry()
        .engine(kind)
        .from_models(model_of(ours, 0), model_of(theirs, seed), ours, draft_tokenizer=theirs, **options)
    )


PROMPTS = ["def add(", "The quick", "é", "for item in items:\n    print("]


RUNS = [
    ("byte-level", "gemma", "eager", 1),
    ("gemma", "byte-level", "eager", 3),
    ("llama 2", "byte-level", "eager", 3),
    ("byte-level", "gemma", "compiled", 3),
]


@pytest.mark.parametrize(("target", "draft", "kind", "batch_size"), RUNS)
def test_greedy_is_that_of_generate(target: str, draft: str, kind: str, batch_size: int) -> None:
    engine: Any = engine_of(target, draft, kind)
    result = engine.generate(PROMPTS, "static:length=3", temperature=0, max_new_tokens=12, batch_size=batch_size)
    tokenizer = engine.models.tokenizer
    assert [[*row] for row in result.tokens] == [
        greedy(engine.models.target, tokenizer(text)["input_ids"], 12) for text in PROMPTS
    ]
    assert result.stats.drafted > 20


@pytest.mark.parametrize(("target", "draft"), [("byte-level", "gemma"), ("gemma", "another byte-level")])
def test_proposals_are_what_the_draft_says_after_all_of_the_text(
    target: str, draft: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With blocks rejected and accepted, rows refilled and text written anew: its cache holds what the row says."""
    engine: Any = engine_of(target, draft)
    propose, seen = TranslatedDraft.propose, []

    def watched(self: TranslatedDraft, tokens: Any, length: Any, drafted: Any, live: Any, hidden: bool) -> Any:
        offer = propose(self, tokens, length, drafted, live, hidden)
        for row in offer.offered.nonzero().flatten().tolist():
            own = [*self._readings[row].tokens]
            block = tokens[row, length[row] : length[row] + drafted[row]].tolist()
            own += [self._common.reading[token] for token in block]
            wanted = self._common.in_targets(engine.models.draft(torch.tensor([own])).logits[:, -1])
            assert torch.allclose(offer.logits[row], wanted[0], atol=1e-4)
            seen.append(self._common.draft.text(own))
        return offer

    monkeypatch.setattr(TranslatedDraft, "propose", watched)
    with torch.inference_mode():
        result = engine.generate(PROMPTS, "adaedl:threshold=0.0", temperature=1.0, max_new_tokens=20, batch_size=2)
    assert result.stats.accepted > 0
    assert len(seen) > 60


def shuffled(model: Any, tokenizer: Any) -> tuple[Any, Any]:
    """The same model with its tokens numbered otherwise."""
    order = torch.randperm(len(tokenizer), generator=torch.Generator().manual_seed(0))
    place = order.argsort().tolist()
    tree = json.loads(tokenizer.backend_tokenizer.to_str())
    tree["model"]["vocab"] = {name: place[index] for name, index in tree["model"]["vocab"].items()}
    for token in tree["added_tokens"]:
        token["id"] = place[token["id"]]
    special = {"bos_token": tokenizer.bos_token, "eos_token": tokenizer.eos_token}
    other = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(tree)), **special)
    twin = deepcopy(model)
    with torch.no_grad():
        for weight in {twin.get_input_embeddings().weight, twin.get_output_embeddings().weight}:
            weight[: len(order)] = weight[order]
    return twin, other


def test_a_draft_whose_tokens_are_numbered_otherwise_is_as_good() -> None:
    plain: Any = load_engine({"kind": "eager", "dtype": "float32", "packed": False})
    models = plain.models
    draft, tokenizer = shuffled(models.draft, models.tokenizer)
    engine = EagerEngine.from_models(models.target, draft, models.tokenizer, draft_tokenizer=tokenizer)
    assert engine.models.common is not None
    options: dict[str, Any] = {"temperature": 0, "max_new_tokens": 24}
    wanted, given = (each.generate(["def add(a, b):\n", "class A:"], "adaedl", **options) for each in (plain, engine))
    assert given.tokens == wanted.tokens
    assert given.stats.accepted_by_position == wanted.stats.accepted_by_position
    assert given.stats.offered_by_position == wanted.stats.offered_by_position
    assert given.stats.draft_forwards == wanted.stats.draft_forwards
    assert given.stats.acceptance_rate > 0.3


def test_a_draft_whose_context_is_full_proposes_nothing() -> None:
    engine: Any = engine_of("byte-level", "gemma")
    engine.models.draft.config.max_position_embeddings = 24
    engine.models.target.generation_config.eos_token_id = None
    result = engine.generate(PROMPTS[:2], "static:length=3", temperature=0, max_new_tokens=60)
    assert len(result.tokens[0]) == 60
    assert 0 < result.stats.drafted < 1.5 * result.stats.rounds


def test_generate_of_transformers_takes_both_tokenizers() -> None:
    ours, theirs = byte_level(), sentencepiece()
    target, prompt = model_of(ours, 0), ours("def add(", return_tensors="pt")["input_ids"]
    plain = {"do_sample": False, "max_new_tokens": 8, "pad_token_id": 0, "return_dict_in_generate": True}
    given = target.generate(
        prompt,
        custom_generate=stopkit.assisted,
        draft_model=model_of(theirs, 1),
        tokenizers=(ours, theirs),
        policy="static:length=2",
        **plain,
    )
    assert torch.equal(given.sequences, target.generate(prompt, **plain).sequences)
    assert given.stats.drafted > 4


def test_it_is_told_in_numbers(caplog: pytest.LogCaptureFixture) -> None:
    compared.cache_clear()
    with caplog.at_level(logging.WARNING, "stopkit"):
        engine: Any = engine_of("byte-level", "gemma")
        engine_of("byte-level", "gemma")
    (line,) = caplog.messages
    assert line.startswith("engine.draft: LlamaForCausalLM: has another tokenizer than the target: it drafts with what")
    assert f"{engine.models.common.size} of its" in line
    assert line.endswith("of those in a sample text.")


def test_one_tokenizer_is_nothing_to_tell(caplog: pytest.LogCaptureFixture) -> None:
    same = byte_level()
    model = model_of(same, 0)
    engine: Any = registry().engine("eager").from_models(model, model, same, draft_tokenizer=same)
    assert engine.models.common is None
    assert not caplog.messages


def words(*texts: str, level: bool = True) -> PreTrainedTokenizerFast:
    """A tokenizer of these tokens alone."""
    tokenizer = Tokenizer(models.BPE(vocab={text: index for index, text in enumerate(texts)}, merges=[]))
    if level:
        tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def test_too_little_in_common_is_refused_in_numbers() -> None:
    few = words("a", "b")
    message = (
        r"engine\.draft: LlamaForCausalLM: has another tokenizer than the target, and too few tokens in common: "
        r"2 of its 2 tokens are among the target's 388, \d% of those in a sample text, and at least 25% are needed"
    )
    with pytest.raises(InputError, match=message):
        registry().engine("eager").from_models(
            model_of(byte_level(), 0), model_of(byte_level(), 1), byte_level(), draft_tokenizer=few
        )


def test_a_convention_that_is_not_known_is_refused() -> None:
    with pytest.raises(InputError, match=r"neither a byte-level nor a SentencePiece one"):
        registry().engine("eager").from_models(
            model_of(byte_level(), 0), model_of(byte_level(), 1), byte_level(), draft_tokenizer=words("a", level=False)
        )


def test_a_recording_is_refused() -> None:
    engine: Any = engine_of("byte-level", "gemma")
    with pytest.raises(InputError, match=r"a recording needs a draft with the target's tokenizer"):
        engine.identity()
