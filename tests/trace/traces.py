"""Small traces by hand or by chance, and a policy replayed on them the slow way: in an engine for each sequence."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from stopkit.costs import Costs, FixedCosts
from stopkit.decode import Generation
from stopkit.decoding import Verification
from stopkit.policy import RoundContext, StoppingPolicy
from stopkit.sampling import Sampling
from stopkit.state import State
from stopkit.statistics import Statistics
from stopkit.trace.format import Metadata, Timings
from stopkit.trace.recorder import Rollouts
from stopkit.trace.replay import ReplayDecoding, priced
from stopkit.trace.trace import Trace
from stopkit.trace.writing import TraceWriter

MAX_DRAFT = 4
SCORES = ("entropy", "max_probability", "margin", "drawn_probability", "beta", "acceptance")


class Start(NamedTuple):
    """A start: how many tokens an engine could draft, how many were, and how many of them are accepted."""

    limit: int
    drafted: int
    run: int


def write(path: Path, sequences: Sequence[Sequence[Start]], timings: Timings | None = None, seed: int = 0) -> Path:
    """A trace of sequences of these starts at `path`; scores are drawn by chance."""
    chance = torch.Generator().manual_seed(seed)
    metadata = Metadata(
        target={"name": "chance"},
        draft={"name": "chance"},
        tokenizer="",
        prompts="",
        sequences=len(sequences),
        sampling=Sampling(temperature=0.7),
        seed=seed,
        max_new_tokens=64,
        max_draft=MAX_DRAFT,
        timings=timings,
    )
    with TraceWriter(path, metadata) as writer:
        for number, starts in enumerate(sequences):
            writer.write(_rollouts(number, starts, chance))
    return path


def trace(folder: Path, sequences: Sequence[Sequence[Start]], timings: Timings | None = None) -> Trace:
    """The same, opened."""
    return Trace.open(write(folder / "made.parquet", sequences, timings))


def by_chance(seed: int, lengths: Sequence[int]) -> list[list[Start]]:
    """Sequences of these lengths, every third ended by a token."""
    chance = torch.Generator().manual_seed(seed)
    return [_sequence(length, 3 if number % 3 == 2 else 0, chance) for number, length in enumerate(lengths)]


def _sequence(length: int, spare: int, chance: torch.Generator) -> list[Start]:
    """`spare`: tokens that the engine had left when a token ended the sequence."""
    starts = []
    for start in range(length):
        limit = length + spare - start - 1
        drafted = min(limit, MAX_DRAFT)
        kept = (torch.rand(drafted, generator=chance) < 0.7).long().cumprod(0).sum()
        run = min(int(kept), length - start)
        if spare and run == length - start:
            drafted = run  # the token that ends the sequence ends the rollout
        starts.append(Start(limit, drafted, run))
    return starts


def _rollouts(number: int, starts: Sequence[Start], chance: torch.Generator) -> Rollouts:
    limit, drafted, run = (torch.tensor(values) for values in zip(*starts, strict=True))
    shape = len(starts), max(1, int(drafted.max()))
    output = torch.randint(5, (len(starts),), generator=chance)
    columns = {name: torch.rand(shape, generator=chance) for name in SCORES}
    columns["entropy"] = 3 * columns["entropy"] ** 2
    columns["token"] = torch.randint(5, shape, generator=chance)
    columns["accepted"] = torch.arange(shape[1]) < run.unsqueeze(1)
    columns["top_token"] = torch.randint(5, shape, generator=chance)
    length, entropy = 3 + number + torch.arange(len(starts)), 2 * torch.rand(len(starts), generator=chance)
    return Rollouts(number, output.roll(1), output, limit, drafted, columns, length, entropy)


class Alone(ReplayDecoding):
    """One sequence at one pair of costs, told about costs and seconds as every engine tells: without dimensions."""

    def __init__(self, trace: Trace, sequence: int, costs: FixedCosts, signals: frozenset[str]) -> None:
        super().__init__(trace, torch.tensor([sequence]), signals, [costs])

    def context(self) -> RoundContext:
        context = super().context()
        costs = context.costs
        return replace(context, costs=Costs(*(value[0] for value in vars(costs).values())))

    def verify(self, drafted: Tensor) -> Verification:
        accepted, seconds = super().verify(drafted)
        assert isinstance(seconds, Tensor)
        return Verification(accepted, seconds[0])


@torch.inference_mode()
def one_by_one(trace: Trace, policy: StoppingPolicy, costs: FixedCosts) -> tuple[list[Statistics], list[State]]:
    """What `policy` did on each sequence of `trace`, in an engine with a batch of one, and its state after each."""
    found: list[Statistics] = []
    states: list[State] = []
    for sequence in range(len(trace.sequences)):
        decoding = Alone(trace, sequence, costs, policy.required_signals)
        before = states[-1].outlived() if states else None
        result = Generation(policy, decoding, before).run()
        found.append(priced(result.stats, costs))
        states.append(result.state)
    return found, states
