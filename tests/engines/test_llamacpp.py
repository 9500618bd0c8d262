"""What the engine makes of llama.h, with tables in its place: any memory, the same law; and wrong input, by name."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import stopkit
from stopkit.errors import GenerationError, InputError
from stopkit.testing import TableModel, assert_distribution_preserved
from stopkit_engines.llamacpp import context, library
from stopkit_engines.llamacpp.engine import LlamaCppEngine
from stopkit_engines.llamacpp.tokenizer import require_same_tokens
from tests.engines.llama_of_tables import OverTables, Tables, over

MEMORIES = {
    "plain": over(Tables()),
    "few rows": over(Tables(most_rows=2)),
    "two states": over(Tables(states=True), states=2),
    "no states": over(Tables(states=True), states=0),
    "many states": over(Tables(states=True), states=8),
    "a window": over(Tables(window=3), swa_full=False),
    "a window kept whole": over(Tables(window=3)),
}


@pytest.fixture(scope="module")
def pair() -> tuple[TableModel, TableModel]:
    first, second = (TableModel.random(3, torch.Generator().manual_seed(seed), order=3) for seed in (0, 1))
    return first, second


@pytest.mark.parametrize("memory", MEMORIES)
def test_the_law_holds_with_any_memory(pair: tuple[TableModel, TableModel], memory: str) -> None:
    assert_distribution_preserved(
        {"kind": "static", "length": 2}, *pair, [0, 1], 3, neighbours=[[2]], engine=MEMORIES[memory], rows=32
    )


def differs_from_a_fresh_one(engine: LlamaCppEngine) -> bool:
    """Whether a draft that drafts three tokens, takes back two and goes on says what a new one says."""
    model = engine.models.target
    used, fresh = (engine._runner("draft", model, 2, 16) for _ in range(2))
    tokens, end = torch.tensor([[0, 1, 2, 0, 1, 2, 0], [1, 1, 0, 2, 0, 0, 2]]), torch.tensor([2, 1])
    for step in range(4):
        used.forward(tokens, end + step, keep=1)
    used.rewind(end + 1)
    tokens[0, 3:] = tokens[1, 2:] = 1
    return not used.forward(tokens, end + 2, keep=1).logits.equal(fresh.forward(tokens, end + 2, keep=1).logits)


@pytest.mark.parametrize("memory", MEMORIES)
def test_what_was_taken_back_is_forgotten(pair: tuple[TableModel, TableModel], memory: str) -> None:
    assert not differs_from_a_fresh_one(MEMORIES[memory].from_models(*pair))


@pytest.mark.parametrize(
    ("memory", "target", "draft"),
    [
        ("plain", True, True),
        ("two states", False, False),
        ("no states", False, False),
        ("many states", True, False),
        ("a window", False, False),
    ],
)
def test_the_trial_tells_how_tokens_are_taken_back(
    pair: tuple[TableModel, TableModel], memory: str, target: bool, draft: bool
) -> None:
    ways = MEMORIES[memory].from_models(*pair).trial_of_models()
    assert {field: way == "takes tokens back" for field, way in ways.items()} == {"target": target, "draft": draft}


@pytest.mark.parametrize("memory", ["many states", "a window"])
def test_llama_cpps_yes_is_not_enough(
    pair: tuple[TableModel, TableModel], memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes back states and windows that it has lost; who trusts it goes on from another place."""

    def trusting(memory: Any, row: int, keep: int) -> bool:
        return bool(memory._llama.llama_memory_seq_rm(memory._memory, row, keep, -1))

    monkeypatch.setattr(context.Context, "forget", trusting)
    engine = MEMORIES[memory].from_models(*pair)
    assert differs_from_a_fresh_one(engine)
    with pytest.raises((InputError, GenerationError), match=r"after tokens that were taken back|llama_decode returns"):
        engine.trial_of_models()


def test_hidden_states_are_copies(pair: tuple[TableModel, TableModel]) -> None:
    """A policy may keep them; what llama.cpp gave is overwritten by the next batch."""
    runner = OverTables.from_models(*pair)
    source = runner._draft_source(2, 16)
    tokens, length = torch.tensor([[0, 1, 2, 0], [2, 2, 0, 0]]), torch.tensor([3, 2])
    none, live = torch.zeros(2, dtype=torch.long), torch.ones(2, dtype=torch.bool)
    first = source.propose(tokens, length, none, live, hidden=True)
    assert first.hidden_state is not None
    before = first.hidden_state.clone()
    source.propose(tokens, length, none + 1, live, hidden=True)
    assert first.hidden_state.equal(before)
    assert before.argmax(-1).tolist() == [2, 2]


def test_a_full_memory_is_an_error(pair: tuple[TableModel, TableModel], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tables, "llama_decode", lambda *given: 1)
    with pytest.raises(GenerationError, match="its memory is full"):
        OverTables.from_models(*pair).generate([[0]], "adaedl")


def test_what_llama_cpp_says_is_told() -> None:
    library._listen(3, b"failed to read the header\n", None)
    library._listen(1, b"loading\n", None)
    assert library.reason("it fails") == "it fails: failed to read the header"
    assert library.reason("it fails") == "it fails"


@pytest.fixture
def no_package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    library.library.cache_clear()
    yield
    library.library.cache_clear()


@pytest.mark.usefixtures("no_package")
def test_a_missing_package_is_named(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    with pytest.raises(InputError, match=r"llama-cpp-python.*pip install 'stopkit\[llamacpp\]'"):
        stopkit.load_engine({"kind": "llamacpp", "target": str(file)}).generate("a", "adaedl")


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [("folder", None, "is a folder"), ("absent", None, "cannot be read"), ("text", b"hello", "is no GGUF file")],
)
def test_wrong_files_are_refused(name: str, content: bytes | None, fault: str, tmp_path: Path) -> None:
    place = tmp_path / name
    if name == "folder":
        place.mkdir()
    if content is not None:
        place.write_bytes(content)
    with pytest.raises(InputError, match=rf"engine.target: .*{name}: {fault}"):
        stopkit.load_engine({"kind": "llamacpp", "target": str(place), "draft": None}).generate("a", "adaedl")


def test_the_models_own_sampling_is_refused(pair: tuple[TableModel, TableModel]) -> None:
    with pytest.raises(InputError, match=r"generate\.sampling"):
        OverTables.from_models(*pair).generate([[0]], "adaedl", sampling="model")


def test_models_in_memory_are_refused() -> None:
    with pytest.raises(NotImplementedError, match="runs GGUF files"):
        stopkit.wrap(torch.nn.Linear(1, 1), kind="llamacpp")


class Named:
    """A tokenizer that knows what its tokens are called."""

    def __init__(self, *names: str, special: int = 0) -> None:
        self.names, self.special = names, special

    def tokens(self) -> Iterator[tuple[str, bool]]:
        return ((name, at < self.special) for at, name in enumerate(self.names))


def test_vocabularies_may_differ_in_length_alone() -> None:
    require_same_tokens(Named("a", "b"), Named("a", "b", "[PAD2]"), "draft")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"draft: .*token 1 is 'c' and 'b'"):
        require_same_tokens(Named("a", "b"), Named("a", "c"), "draft")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"token 0 is 'a' and the special token 'a'"):
        require_same_tokens(Named("a", "b", special=1), Named("a", "b"), "draft")  # type: ignore[arg-type]
