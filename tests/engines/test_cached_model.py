"""`CachedModel` gives what a fresh forward gives, after any history of ragged forwards and rewinds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stopkit_engines.hf.cached_model import CachedModel
from tests.engines.models import CONFIGS, VOCABULARY, random_model

ROWS, CAPACITY = 3, 24
MODELS = {name: random_model(name, sharpness=1.0) for name in CONFIGS}

lengths = st.lists(st.integers(0, 5), min_size=ROWS, max_size=ROWS)


@pytest.mark.parametrize("architecture", CONFIGS)
@settings(max_examples=25)
@given(history=st.lists(st.tuples(lengths, lengths), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_equals_a_fresh_forward(architecture: str, history: list[tuple[list[int], list[int]]], seed: int) -> None:
    model = MODELS[architecture]
    generator = torch.Generator().manual_seed(seed)
    cached = CachedModel(model, VOCABULARY, ROWS, CAPACITY, torch.device("cpu"))
    tokens = torch.zeros(ROWS, CAPACITY + 1, dtype=torch.long)
    for grow, shrink in history:
        tokens = tokens.where(_before(cached.filled), torch.randint(VOCABULARY, tokens.shape, generator=generator))
        end = (cached.filled + torch.tensor(grow)).clamp(min=1, max=CAPACITY)
        if not (end > cached.filled).any():
            continue
        pending = end > cached.filled
        logits = cached.forward(tokens, end, keep=1).logits[:, -1]
        for row in range(ROWS):
            if pending[row]:
                fresh = model(input_ids=tokens[row : row + 1, : end[row]]).logits[0, -1]
                torch.testing.assert_close(logits[row], fresh, atol=1e-4, rtol=1e-4)
        cached.rewind((end - torch.tensor(shrink)).clamp(min=0))


def _before(length: Tensor) -> Tensor:
    return torch.arange(CAPACITY + 1) < length.unsqueeze(1)


def test_several_columns_are_the_last_positions() -> None:
    model = MODELS["llama"]
    cached = CachedModel(model, VOCABULARY, 2, 10, torch.device("cpu"))
    tokens = torch.randint(VOCABULARY, (2, 11), generator=torch.Generator().manual_seed(0))
    logits = cached.forward(tokens, torch.tensor([9, 4]), keep=3).logits
    for row, end in enumerate([9, 4]):
        fresh = model(input_ids=tokens[row : row + 1, :end]).logits[0, -3:]
        torch.testing.assert_close(logits[row], fresh, atol=1e-4, rtol=1e-4)


def test_a_smaller_head_is_padded_and_a_larger_one_cut() -> None:
    tokens = torch.zeros(1, 4, dtype=torch.long)
    for vocabulary in (VOCABULARY + 3, VOCABULARY - 3):
        cached = CachedModel(MODELS["llama"], vocabulary, 1, 3, torch.device("cpu"))
        logits = cached.forward(tokens, torch.tensor([2]), keep=1).logits
        assert logits.shape == (1, 1, vocabulary)
        assert torch.isneginf(logits[..., VOCABULARY:]).all()
