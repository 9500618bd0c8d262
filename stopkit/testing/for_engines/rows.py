"""Sequences side by side: each depends on its prompt and its seed, and on nothing else."""

import torch
from hypothesis import strategies as st

from stopkit.engine import Engine
from stopkit.testing.checks import Draw
from stopkit.testing.for_engines.drafting import Blocks
from stopkit.testing.for_engines.workloads import over, workloads
from stopkit.testing.table_model import TableModel


def rows_do_not_depend_on_their_neighbours(engine: type[Engine], draw: Draw) -> None:
    """A prompt in a ragged batch gives the tokens that it gives alone, whatever its place in the batch."""
    work = draw(workloads(prompts=(2, 3)))
    together = work.run(engine).tokens
    backwards = work.run(engine, prompts=work.prompts[::-1], seeds=work.seeds[::-1]).tokens[::-1]
    assert backwards == together, f"the prompts give {together} in order, and {backwards} in reverse order"
    for prompt, seed, tokens in zip(work.prompts, work.seeds, together, strict=True):
        (alone,) = work.run(engine, prompts=[prompt], seeds=[seed]).tokens
        assert tokens == alone, f"{prompt} with seed {seed} gives {alone} alone, and {tokens} in the batch"


def rows_take_the_next_prompt(engine: type[Engine], draw: Draw) -> None:
    """With more prompts than rows every prompt gives the tokens that it gives where all have a row."""
    work = draw(workloads(prompts=(2, 4)))
    batch_size = draw(st.integers(1, len(work.prompts)))
    together, in_turn = work.run(engine).tokens, work.run(engine, batch_size=batch_size).tokens
    assert in_turn == together, f"the prompts give {together} side by side, and {in_turn} in {batch_size} rows"


def equal_seeds_repeat_a_run(engine: type[Engine], draw: Draw) -> None:
    """The same seed gives the same tokens."""
    work, seed = draw(workloads()), draw(st.integers(0, 1000))
    once, again = (work.run(engine, seeds=None, seed=seed).tokens for _ in range(2))
    assert once == again, f"seed {seed} gives {once}, then {again}"


def other_seeds_give_other_samples(engine: type[Engine], draw: Draw) -> None:
    """Runs of different seeds differ, and so do the sequences of one run, also where their prompts are the same."""
    seed = draw(st.integers(0, 1000))
    coin = TableModel.from_logits(torch.zeros(4, dtype=torch.float64))
    bound = over(engine, coin, coin)  # 24 tokens out of four: alike by chance once in 10¹⁴
    first, second = (
        bound.generate([[0]] * 3, Blocks(caps=(2,)), seed=each, max_new_tokens=24).tokens for each in (seed, seed + 1)
    )
    assert first != second, f"seeds {seed} and {seed + 1} give the same: {first}"
    assert len(set(map(tuple, first))) == 3, f"sequences of one run repeat each other: {first}"
