"""The bundled pair as GGUF: written when it is named, with its own tokenizer, in the engine and on the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

import stopkit
from stopkit.errors import InputError
from stopkit.pair import bundled
from stopkit.pair.corpus import held_out_prompts
from stopkit_engines.llamacpp.engine import LlamaCppEngine
from stopkit_engines.llamacpp.places import locate
from stopkit_engines.llamacpp.writing import write_llama

pytestmark = pytest.mark.llamacpp

TEXTS = ["def add(", "  x = {'a': 1}\n\n", "naïve 日本語 🙂 \t²", "it's 10% of 1,000", "a<|endoftext|>b", ""]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        made = stopkit.load_engine({"kind": "llamacpp", "threads": 1})
        assert isinstance(made, LlamaCppEngine)
        assert made.loaded() == {}
        assert made.models.target.description
        yield made


@pytest.fixture(scope="module")
def ours() -> Any:
    return AutoTokenizer.from_pretrained(bundled.model_path("target"))


def test_its_tokenizer_is_that_of_transformers(engine: LlamaCppEngine, ours: Any) -> None:
    theirs = engine.models.tokenizer
    for text in [*TEXTS, *held_out_prompts(40)]:
        tokens = ours(text)["input_ids"]
        assert theirs(text)["input_ids"] == tokens
        assert theirs.decode(tokens) == ours.decode(tokens, skip_special_tokens=True)
        assert theirs.decode(tokens, skip_special_tokens=False) == ours.decode(tokens, skip_special_tokens=False)
    assert (theirs.bos_token, theirs.bos_token_id, theirs.chat_template) == ("<|endoftext|>", 0, None)
    assert {token: each.content for token, each in theirs.added_tokens_decoder.items()} == {0: "<|endoftext|>"}
    assert [theirs.convert_ids_to_tokens(token) for token in range(4096)] == ours.convert_ids_to_tokens(range(4096))


def test_a_chat_is_written_by_the_template(engine: LlamaCppEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    template = "{% for m in messages %}{{ bos_token }}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    monkeypatch.setitem(engine.models.tokenizer.__dict__, "chat_template", template)
    messages = [{"role": "user", "content": "hello"}]
    answer = engine.chat(messages, "adaedl", temperature=0.0, max_new_tokens=4)
    tokens = engine.models.tokenizer("<|endoftext|>user: hello\n")["input_ids"]
    assert tokens[0] == 0
    assert answer.tokens == engine.generate([tokens], "adaedl", temperature=0.0, max_new_tokens=4).tokens


def test_what_is_streamed_is_the_text_and_stops(engine: LlamaCppEngine, ours: Any) -> None:
    pieces = list[str]()
    prompt = held_out_prompts(1)[0]
    result = engine.generate(
        prompt, "adaedl", temperature=0.0, max_new_tokens=40, on_piece=lambda each: pieces.append(each.text)
    )
    assert "".join(pieces) == result.text[0] == ours.decode(result.tokens[0], skip_special_tokens=True)
    stop = result.text[0][10:13]
    cut = engine.generate(prompt, "adaedl", temperature=0.0, max_new_tokens=40, stop=stop)
    assert cut.continuations[0].finish_reason == "stop"
    assert cut.text[0] == result.text[0][: result.text[0].index(stop)]


def test_it_is_written_once(engine: LlamaCppEngine) -> None:
    file = locate("bundled:target", "engine.target")
    before = file.stat().st_mtime_ns
    assert stopkit.load_engine({"kind": "llamacpp"}).models.target.vocabulary == 4096  # type: ignore[attr-defined]
    assert file.stat().st_mtime_ns == before


def test_other_vocabularies_are_refused_by_name(engine: LlamaCppEngine, tmp_path: Path) -> None:
    source = bundled.model_path("draft")
    for file in source.iterdir():
        if file.name != "tokenizer.json":
            (tmp_path / file.name).symlink_to(file)
    written = json.loads((source / "tokenizer.json").read_text())
    vocabulary = written["model"]["vocab"]
    vocabulary["!"], vocabulary['"'] = vocabulary['"'], vocabulary["!"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(written))
    other = tmp_path / "other.gguf"
    write_llama(tmp_path, other, torch.float16)
    with pytest.raises(InputError, match=r"engine.draft: .*token 1 is '\"' and '!'"):
        stopkit.load_engine({"kind": "llamacpp", "draft": str(other)}).generate("a", "adaedl")


def test_the_command_line_takes_it(engine: LlamaCppEngine, capsys: pytest.CaptureFixture[str]) -> None:
    from stopkit.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["generate", "--engine", "llamacpp", "--temperature", "0", "--max-new-tokens", "8", "def add("])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(engine.generate("def add(", "adaedl", temperature=0.0, max_new_tokens=8).text[0])
