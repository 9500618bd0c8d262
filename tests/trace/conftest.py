"""A recording of small models, and what its files hold."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from stopkit import Engine
from stopkit.generation import GenerationOptions
from stopkit.plugins import registry
from stopkit.trace.files import trace_files
from stopkit.trace.recording import Recording
from tests.engines.models import noisy_copy, random_model

PROMPTS = [[3, 1, 4, 1, 5, 9, 2, 6], [2], [7, 1, 8], [2, 8, 1, 8, 2, 8, 4, 5], [1, 1]]
Record = Callable[..., Recording]


@pytest.fixture(scope="session")
def engine() -> Engine:
    target = random_model()
    return registry().engine("eager").from_models(target, noisy_copy(target))


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stopkit_engines.hf.timing.REPEATS", 1)


@pytest.fixture
def recording(engine: Engine) -> Record:
    """Makes a recording of five short sequences, two side by side, with changes."""

    def make(**changed: Any) -> Recording:
        named = Recording.__dataclass_fields__
        options = {"max_new_tokens": 6} | {name: value for name, value in changed.items() if name not in named}
        fields = {"engine": engine, "prompts": PROMPTS, "max_draft": 4, "batch_size": 2, "rollouts": 3}
        own = {name: value for name, value in changed.items() if name in named}
        return Recording(**fields | own, options=GenerationOptions(**options))

    return make


def rows(path: Path) -> pa.Table:
    """All rows of a trace, in order."""
    whole = pa.concat_tables([pq.read_table(file) for file in trace_files(path)])
    return whole.replace_schema_metadata().sort_by([(name, "ascending") for name in ("sequence", "start", "position")])


def assert_same_rows(one: Path, other: Path) -> None:
    """Two traces hold the same rows; what is computed may differ by rounding, which depends on the rows beside."""
    left, right = rows(one), rows(other)
    assert left.schema == right.schema
    for name, left_column, right_column in zip(left.schema.names, left.columns, right.columns, strict=True):
        if pa.types.is_floating(right_column.type):
            found, expected = (torch.tensor(column.to_numpy()) for column in (left_column, right_column))  # null: NaN
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6, equal_nan=True)
        else:
            assert left_column == right_column, name
