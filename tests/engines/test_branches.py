"""`Branches` gives what fresh forwards over whole prefixes give, for trees of every shape."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stopkit_engines.hf.branches import Branches
from tests.engines.models import CONFIGS, VOCABULARY, random_model

MODELS = {name: random_model(name, sharpness=1.0) for name in CONFIGS}
TRUNK, DEPTH = 12, 5


def fresh(model: object, trunk: Tensor, after: int, branch: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and hidden state after the trunk's first tokens and a branch."""
    found = model(input_ids=torch.cat([trunk[:after], branch]).unsqueeze(0), output_hidden_states=True)  # type: ignore[operator]
    return found.logits[0, -1], found.hidden_states[-1][0, -1]


@pytest.mark.parametrize("architecture", CONFIGS)
@settings(max_examples=15)
@given(
    leaves=st.lists(st.lists(st.integers(3, TRUNK), min_size=1, max_size=4), min_size=1, max_size=3),
    widths=st.lists(st.integers(1, 3), max_size=4).filter(lambda widths: sum(widths) < DEPTH),
    seed=st.integers(0, 99),
)
def test_equals_a_fresh_forward(architecture: str, leaves: list[list[int]], widths: list[int], seed: int) -> None:
    model, generator = MODELS[architecture], torch.Generator().manual_seed(seed)
    trunk = torch.randint(VOCABULARY, (TRUNK,), generator=generator)
    branches = Branches(model, VOCABULARY, trunk, keep=TRUNK - 2, most=4, depth=DEPTH, hidden=True)
    for after in leaves:
        tokens = torch.zeros(len(after), 0, dtype=torch.long)
        found = branches.leave(torch.tensor(after))
        expect(model, trunk, after, tokens, found.logits, found.hidden_state)
        for width in widths:
            grown = torch.randint(VOCABULARY, (len(after), width), generator=generator)
            scores = branches.forward(grown)
            for column in range(width):
                seen = torch.cat([tokens, grown[:, : column + 1]], 1)
                expect(model, trunk, after, seen, scores.logits[:, column], scores.hidden_state[:, column])
            tokens = torch.cat([tokens, grown], 1)


def expect(model: object, trunk: Tensor, after: list[int], tokens: Tensor, logits: Tensor, hidden: Tensor) -> None:
    for row, (place, branch) in enumerate(zip(after, tokens, strict=True)):
        for ours, theirs in zip((logits[row], hidden[row]), fresh(model, trunk, place, branch), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_a_trunk_longer_than_the_context_is_cut() -> None:
    """Places within the context are served as ever; past it there is something, which nobody asks for."""
    model = MODELS["llama"]
    context = model.config.max_position_embeddings
    trunk = torch.randint(VOCABULARY, (context + 5,), generator=torch.Generator().manual_seed(0))
    branches = Branches(model, VOCABULARY, trunk, keep=9, most=2, depth=3)
    after = [context - 2, context + 5]
    expect_first(model, trunk, after[0], branches.leave(torch.tensor(after)).logits)
    found = branches.forward(torch.tensor([[1], [1]])).logits
    torch.testing.assert_close(found[0, 0], fresh(model, trunk, after[0], torch.tensor([1]))[0], atol=1e-4, rtol=1e-4)


def expect_first(model: object, trunk: Tensor, after: int, logits: Tensor) -> None:
    torch.testing.assert_close(logits[0], fresh(model, trunk, after, trunk[:0])[0], atol=1e-4, rtol=1e-4)
