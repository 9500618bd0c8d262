"""Random damage to files: one line that names the file, or no difference at all."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from stopkit import InputError
from stopkit.spec import load_policy
from stopkit.state_file import load_state, save_state
from stopkit.trace.trace import Trace
from tests.trace.conftest import Record

TRIES = 60


def flipped(content: bytes, chance: random.Random) -> bytes:
    spoilt = bytearray(content)
    for _ in range(chance.randint(1, 3)):
        spoilt[chance.randrange(len(spoilt))] ^= 1 << chance.randrange(8)
    return bytes(spoilt)


def cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def overwritten(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content))
    return content[:at] + chance.randbytes(min(16, len(content) - at)) + content[at + 16 :]


def duplicated(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content))
    return content[:at] + content[max(0, at - 50) :]


DAMAGES = (flipped, cut, overwritten, duplicated)


def survives(path: Path, content: bytes, read: Callable[[], Any], damage: Any, seed: int) -> Any:
    """What is read of a damaged file; None if it was refused, in one line that names it."""
    path.write_bytes(damage(content, random.Random(seed)))
    try:
        return read()
    except InputError as error:
        said = str(error)
    assert str(path) in said
    assert "\n" not in said
    assert len(said) < 400 + 2 * len(str(path))
    return None


@pytest.mark.parametrize("damage", DAMAGES)
def test_states(tmp_path: Path, damage: Any) -> None:
    policy, path = load_policy("goodput"), tmp_path / "s.safetensors"
    state = policy.init(2, torch.device("cpu"))
    save_state(path, policy, state)
    content = path.read_bytes()
    for seed in range(TRIES):
        read = survives(path, content, lambda: load_state(path, policy), damage, seed)
        if read is not None:
            for name, value in read.flat().items():
                assert torch.equal(value, state.flat()[name])


@pytest.mark.parametrize("damage", DAMAGES)
def test_traces(recording: Record, tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "t.parquet"
    recording().run(path)
    content, whole = path.read_bytes(), pq.read_table(path)
    metadata = Trace.open(path).metadata

    def read() -> Any:
        return Trace.open(path), pq.read_table(path, page_checksum_verification=True)

    for seed in range(TRIES):
        opened = survives(path, content, read, damage, seed)
        if opened is not None:
            assert opened[0].metadata == metadata
            assert opened[1].replace_schema_metadata().equals(whole.replace_schema_metadata())
