"""What people hold as prompts is taken for what it is, or refused in one line."""

from typing import Any

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from stopkit import Engine, GenerationError, InputError
from stopkit.plugins import registry
from stopkit.prompt_kinds import as_prompts
from stopkit_engines.batch.prompts import encode
from tests.engines.models import random_model

PAD = 0
rows = st.lists(st.lists(st.integers(1, 39), min_size=1, max_size=6), min_size=1, max_size=4)
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}"
    "{% if add_generation_prompt %}assistant{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    names = ["<pad>", "<s>", "user", "assistant", *(f"w{at}" for at in range(36))]
    base = Tokenizer(models.WordLevel({name: at for at, name in enumerate(names)}, unk_token="<pad>"))
    base.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    base.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    base.add_special_tokens(["<pad>", "<s>"])
    return PreTrainedTokenizerFast(tokenizer_object=base, pad_token="<pad>", bos_token="<s>", chat_template=TEMPLATE)


@pytest.fixture(scope="module")
def engine(tokenizer: PreTrainedTokenizerFast) -> Engine:
    target = random_model()
    return registry().engine("eager").from_models(target, target, tokenizer)


def padded(prompts: list[list[int]], left: bool) -> tuple[list[list[int]], list[list[int]]]:
    """Rows of one length, and their mask."""
    longest = max(map(len, prompts))
    ids, masks = [], []
    for prompt in prompts:
        rest = [PAD] * (longest - len(prompt))
        seen = [1] * len(prompt)
        ids.append(rest + prompt if left else prompt + rest)
        masks.append(rest + seen if left else seen + rest)
    return ids, masks


@settings(max_examples=200)
@given(prompts=rows, left=st.booleans(), container=st.sampled_from([list, torch.tensor, numpy.array]))
def test_every_way_to_hold_token_ids_is_the_same(prompts: list[list[int]], left: bool, container: Any) -> None:
    ids, mask = padded(prompts, left)
    encoding = {"input_ids": container(ids), "attention_mask": container(mask)}
    assert as_prompts(encoding) == prompts
    assert as_prompts([container(prompt) for prompt in prompts]) == prompts
    assert as_prompts(tuple(tuple(prompt) for prompt in prompts)) == prompts
    assert as_prompts([{"input_ids": container(prompt)} for prompt in prompts]) == prompts
    assert as_prompts(container(prompts[0])) == prompts[:1]
    assert as_prompts(container(prompts[:1])) == prompts[:1]
    assert as_prompts({"input_ids": container(prompts[0])}) == prompts[:1]
    assert as_prompts([numpy.int64(token) for token in prompts[0]]) == prompts[:1]


@settings(max_examples=100)
@given(prompts=rows, left=st.booleans())
def test_padding_without_a_mask_is_refused(prompts: list[list[int]], left: bool) -> None:
    ids, _ = padded(prompts, left)
    for given_ids in (torch.tensor(ids), {"input_ids": ids}):
        if len({len(prompt) for prompt in prompts}) == 1:
            assert as_prompts(given_ids, lambda: PAD) == prompts
        else:
            with pytest.raises(InputError, match=r"is padded with token 0.*attention_mask"):
                as_prompts(given_ids, lambda: PAD)


def test_a_token_that_all_rows_begin_with_is_no_padding() -> None:
    assert as_prompts(torch.tensor([[PAD, 3], [PAD, 4]]), lambda: PAD) == [[PAD, 3], [PAD, 4]]


def test_an_engine_knows_what_pads(engine: Engine) -> None:
    with pytest.raises(InputError, match="is padded with token 0"):
        engine.generate(torch.tensor([[0, 0, 5], [4, 5, 6]]), "static", max_new_tokens=2)


NO_PROMPTS: list[tuple[Any, str]] = [
    ([], "there is none"),
    (None, "prompts: None is no prompt"),
    (3.5, "prompts: 3.5 is no prompt"),
    ([None], r"prompts\[0\]: None is no prompt"),
    ([[1.0, 2.7]], r"prompts\[0\]\[0\]: 1.0 is no token id"),
    ([1.5, 2.0], r"prompts\[0\]\[0\]: 1.5 is no token id"),
    (torch.tensor([[0.5]]), r"prompts\[0\]\[0\]: 0.5 is no token id"),
    (torch.tensor([[True]]), r"prompts\[0\]\[0\]: True is no token id"),
    ([True, False], r"True is no token id"),
    ([[[1, 2]]], r"prompts\[0\]\[0\]: \[1, 2\] is no token id"),
    (torch.zeros(1, 1, 2, dtype=torch.long), r"\[0, 0\] is no token id"),
    ({"text": "x"}, "a mapping without input_ids"),
    ({"input_ids": None}, "None holds no rows of numbers"),
    ({"input_ids": [[1, 2]], "attention_mask": [[1]]}, r"rows of \[1\] and input_ids of \[2\]"),
    ({"input_ids": [[1, 2, 3]], "attention_mask": [[1, 0, 1]]}, r"prompts\[0\]: .*in the middle"),
    ([{"input_ids": [[1], [2]]}], r"prompts\[0\]: holds 2 rows"),
    (torch.tensor([[1, 2]]).to_sparse(), r"prompts: a tensor that cannot be read"),
    (torch.zeros(1, 2, dtype=torch.long, device="meta"), r"prompts: a tensor that cannot be read"),
    ([torch.zeros(2, dtype=torch.long, device="meta")], r"prompts\[0\]: a tensor that cannot be read"),
    (b"def", r"prompts: b'def' is no prompt"),
    ([b"def"], r"prompts\[0\]: b'def' is no prompt"),
    ("a\ud800", r"prompts\[0\]: character 1 .*lone surrogate"),
    (["ok", "\udcff"], r"prompts\[1\]: character 0 .*lone surrogate"),
]


@pytest.mark.parametrize(("given_prompts", "message"), NO_PROMPTS)
def test_what_is_no_prompt_is_refused(engine: Engine, given_prompts: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        engine.generate(given_prompts, "static", max_new_tokens=2)
    assert "\n" not in str(refused.value)


class Odd:
    def __repr__(self) -> str:
        return "odd\n" * 1000


leaves = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3) | st.binary(max_size=3)


def _around(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    named = st.dictionaries(st.text(max_size=3), inner, max_size=3)
    return st.lists(inner, max_size=3) | named | st.tuples(inner) | st.sets(st.integers(), max_size=2)


@settings(max_examples=400)
@given(st.recursive(leaves | st.builds(Odd), _around, max_leaves=6))
def test_anything_is_prompts_or_one_line(anything: Any) -> None:
    prompts, said = [], ""
    try:
        prompts = as_prompts(anything)
    except InputError as error:
        said = str(error)
    assert bool(prompts) != bool(said)
    assert "\n" not in said
    assert len(said) < 300
    assert all(isinstance(prompt, str) or all(type(token) is int for token in prompt) for prompt in prompts)


def test_what_a_tokenizer_returns(tokenizer: PreTrainedTokenizerFast, engine: Engine) -> None:
    texts = ["w1 w2", "w3 w4 w5 w6"]
    expected = engine.generate(texts, "static", max_new_tokens=4, temperature=0).tokens
    for side in ("left", "right"):
        tokenizer.padding_side = side
        for kind in (None, "pt", "np"):
            encoding = tokenizer(texts, padding=True, return_tensors=kind)
            assert engine.generate(encoding, "static", max_new_tokens=4, temperature=0).tokens == expected


def test_chat_messages_go_through_the_template(tokenizer: PreTrainedTokenizerFast, engine: Engine) -> None:
    chat = [{"role": "user", "content": "w1"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
    assert encode(chat, 0, tokenizer, 40, 96) == ids == [1, 2, 5, 3]
    rendered = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    options = {"policy": "static", "max_new_tokens": 4, "temperature": 0}
    wanted = engine.generate([ids], **options).tokens
    for prompts in (chat, [chat], rendered, tokenizer.apply_chat_template(chat, add_generation_prompt=True)):
        assert engine.generate(prompts, **options).tokens == wanted
    going_on = [*chat, {"role": "assistant", "content": "w7"}]
    assert encode(going_on, 0, tokenizer, 40, 96) == [1, 2, 5, 3, 7 + 4]


def test_chat_is_what_generate_makes_of_messages(engine: Engine) -> None:
    chats = [[{"role": "user", "content": "w1"}], [{"role": "user", "content": "w2 w3"}]]
    options: dict[str, Any] = {"policy": "static", "max_new_tokens": 4, "temperature": 0}
    wanted = engine.generate(chats, **options).tokens
    assert engine.chat(chats, **options).tokens == wanted
    assert engine.chat(tuple(chats), **options).tokens == wanted
    assert engine.chat(chats[0], **options).tokens == wanted[:1]


@pytest.mark.parametrize(
    "said", ["w1", [], None, ["w1"], [1, 2], [{"content": "w1"}], {"role": "user"}, [[]]], ids=repr
)
def test_what_is_no_chat_is_refused(engine: Engine, said: Any) -> None:
    with pytest.raises(InputError, match=r"^messages: .* is no chat; give messages such as"):
        engine.chat(said, "static")


def test_a_chat_without_a_template_is_refused(engine: Engine) -> None:
    plain = PreTrainedTokenizerFast(tokenizer_object=engine.models.tokenizer.backend_tokenizer)  # type: ignore[attr-defined]
    target = engine.models.target  # type: ignore[attr-defined]
    without = registry().engine("eager").from_models(target, target, plain)
    with pytest.raises(InputError, match="the target's tokenizer has no chat template; give text"):
        without.chat([{"role": "user", "content": "w1"}], "static")


def test_a_rendered_template_gets_no_second_beginning(tokenizer: PreTrainedTokenizerFast) -> None:
    assert encode("w1", 0, tokenizer, 40, 96) == [1, 5]
    assert encode("<s> w1", 0, tokenizer, 40, 96) == [1, 5]
    assert encode("<s> <s> w1", 0, tokenizer, 40, 96) == [1, 1, 5]


def test_a_template_that_refuses(tokenizer: PreTrainedTokenizerFast) -> None:
    refusing = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    chat = [{"role": "user", "content": "w1"}]
    with pytest.raises(InputError, match=r"prompts\[2\]: is chat messages.*no chat template"):
        encode(chat, 2, refusing, 40, 96)
    refusing.chat_template = "{{ raise_exception('roles must\n\n alternate') }}"
    with pytest.raises(InputError, match=r"prompts\[2\]: the model's chat template refuses .*roles must alternate"):
        encode(chat, 2, refusing, 40, 96)
    with pytest.raises(InputError, match="is chat messages, and this engine was given no tokenizer"):
        encode(chat, 0, None, 40, 96)


class Fails:
    """A tokenizer that knows nothing from a token on."""

    def __call__(self, text: str) -> Any:
        raise RuntimeError("no such text")

    def decode(self, tokens: list[int], **options: Any) -> str:
        if len(tokens) > 12:
            raise IndexError("no such token")
        return "x" * len(tokens)


def test_a_tokenizer_that_fails_is_said(engine: Engine) -> None:
    target = engine.models.target  # type: ignore[attr-defined]
    failing = registry().engine("eager").from_models(target, target, Fails())
    with pytest.raises(InputError, match=r"^prompts\[0\]: the tokenizer refuses it: no such text"):
        failing.generate("w1", "static")
    with pytest.raises(GenerationError, match=r"the tokenizer cannot decode token \d+ where.*no such token") as raised:
        failing.generate([1, 2], "static", max_new_tokens=20)
    assert raised.value.partial.tokens[0]
