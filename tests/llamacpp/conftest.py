"""Models that the tests of llama.cpp share, loaded once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stopkit.testing.for_engines.agreement import llamas
from stopkit_engines.llamacpp.engine import LlamaCppEngine
from stopkit_engines.llamacpp.model import GgufModel, load
from tests.llamacpp import models

Make = Callable[..., LlamaCppEngine]
PLAIN = {"cache": "float32", "flash_attention": False, "threads": 1}
"""Fields with which llama.cpp computes as transformers does, up to rounding."""


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gguf")


@pytest.fixture(scope="session")
def pair(folder: Path) -> tuple[Any, Any]:
    """A pair of Llamas as transformers has them."""
    return llamas()


@pytest.fixture(scope="session")
def files(folder: Path, pair: tuple[Any, Any]) -> dict[str, tuple[Path, Path]]:
    """A target and a draft of every kind, by what their memory is."""
    return {
        "llama": (models.written(pair[0], folder / "target.gguf"), models.written(pair[1], folder / "draft.gguf")),
        "hybrid": (models.hybrid(folder / "hybrid-0.gguf"), models.hybrid(folder / "hybrid-1.gguf", 0.1)),
        "windowed": (models.windowed(folder / "windowed-0.gguf"), models.windowed(folder / "windowed-1.gguf", 0.1)),
    }


@pytest.fixture(scope="session")
def loaded(files: dict[str, tuple[Path, Path]]) -> dict[str, tuple[GgufModel, GgufModel]]:
    """The same, loaded."""
    return {kind: (load(target, 0, "target"), load(draft, 0, "draft")) for kind, (target, draft) in files.items()}


@pytest.fixture(scope="session")
def engine(loaded: dict[str, tuple[GgufModel, GgufModel]]) -> Make:
    """Makes an engine over the pair of a kind; with `itself` the target is its own draft."""

    def make(kind: str, itself: bool = False, **fields: Any) -> LlamaCppEngine:
        target, draft = loaded[kind]
        return LlamaCppEngine.from_models(target, target if itself else draft, **PLAIN | fields)

    return make
