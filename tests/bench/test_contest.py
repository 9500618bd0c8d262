"""Everyone does every batch of every pass, in turns; what goes wrong in one takes nothing from another."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch

from stopkit.errors import GenerationError
from stopkit.generation import GenerationOptions
from stopkit.statistics import Statistics
from stopkit_engines.bench.contest import AUTOREGRESSIVE, WARM_UP_TOKENS, Contest, Name
from stopkit_engines.bench.contestants import PEER, PLAIN, Done
from stopkit_engines.bench.plot import plot

ORDER: list[str] = []
BATCHES = [[[1, 2]], [[3]], [[4, 5]]]


@dataclass
class Fake:
    """Says the prompt again, with what is `wrong`, in so many `seconds` a token."""

    engine: str
    policy: str
    seconds: float = 0.1
    wrong: int = 0
    fails_at: int | None = None
    begun: int = 0
    lengths: list[int] = field(default_factory=list)

    def takes(self, rows: int) -> bool:
        return True

    def begin(self) -> None:
        self.begun += 1

    def run(self, prompts: Sequence[Sequence[int]], options: GenerationOptions) -> Done:
        self.lengths.append(options.max_new_tokens)
        if len(self.lengths) == self.fails_at:
            raise GenerationError("no more")
        ORDER.append(self.policy)
        tokens = [[token + self.wrong * (token == 3) for token in prompt] for prompt in prompts]
        count = sum(map(len, tokens))
        stats = Statistics(tokens=count, rounds=count - 1, offered_by_position=[4, 3], accepted_by_position=[3, 1])
        stats.seconds["verify"], stats.seconds["other"] = 0.75, 0.25
        return Done(tokens, count * self.seconds, 0.01, stats)


def contest(*fakes: Fake, temperature: float = 0.0) -> Contest:
    ORDER.clear()
    options = GenerationOptions(temperature=temperature, max_new_tokens=20)
    return Contest({Name(f.engine, f.policy): f for f in fakes}, BATCHES, options, torch.device("cpu"))


def test_everyone_runs_every_batch_and_nobody_is_always_first() -> None:
    fakes = [Fake(PEER, PLAIN), Fake("eager", AUTOREGRESSIVE), Fake("eager", "adaedl")]
    held = contest(*fakes)
    list(held.passes(2))
    names = [fake.policy for fake in fakes]
    assert ORDER[:3] == names  # the warm-up
    turns = [ORDER[at : at + 3] for at in range(3, len(ORDER), 3)]
    assert len(turns) == 6
    assert all(sorted(turn) == sorted(names) for turn in turns)
    assert [turn[0] for turn in turns[:3]] == names
    assert turns[3][0] != names[0]
    assert [fake.begun for fake in fakes] == [2, 2, 2]
    assert fakes[0].lengths == [WARM_UP_TOKENS, *[20] * 6]


def test_rows_are_ratios_within_a_pass() -> None:
    fakes = [
        Fake(PEER, PLAIN, 0.2),
        Fake(PEER, "assisted", 0.3),
        Fake(PEER, "assisted:5", 0.1),
        Fake("eager", AUTOREGRESSIVE, 0.1),
        Fake("eager", "adaedl", 0.05, wrong=1),
    ]
    held = contest(*fakes)
    list(held.passes(3))
    rows = {row["policy"]: row for row in held.rows()}
    assert rows["assisted"]["speedup"] == pytest.approx(2 / 3)
    assert rows["adaedl"]["speedup"] == pytest.approx(2.0)
    assert rows["adaedl"]["speedup_interval"] == pytest.approx([2.0, 2.0])
    assert rows["adaedl"]["against_assisted"] == pytest.approx(2.0)
    assert rows[PLAIN]["against_assisted"] == pytest.approx(0.5)
    assert rows["adaedl"]["tokens_per_second"] == pytest.approx(20)
    assert rows["adaedl"]["repeats"] == 3
    assert rows["adaedl"]["equal_rows"] == pytest.approx(2 / 3)
    assert rows["assisted"]["equal_rows"] == 1
    assert rows["adaedl"]["outside_forwards"] == pytest.approx(0.25)
    assert rows["adaedl"]["accepted_given_all_before"] == pytest.approx([0.75, 1 / 3])
    assert rows["adaedl"]["like_best"]
    assert not rows[AUTOREGRESSIVE]["like_best"]


def test_where_tokens_are_drawn_outputs_are_not_compared() -> None:
    held = contest(Fake(PEER, PLAIN), Fake("eager", AUTOREGRESSIVE), temperature=1.0)
    list(held.passes(1))
    assert {row["equal_rows"] for row in held.rows()} == {None}


@pytest.mark.parametrize("fails_at", [1, 3, 6])
def test_who_fails_is_left_out_and_says_why(fails_at: int) -> None:
    fakes = [Fake("eager", AUTOREGRESSIVE), Fake("eager", "adaedl", fails_at=fails_at)]
    held = contest(*fakes)
    list(held.passes(2))
    rows = held.rows()
    errors = [row["error"] for row in rows if "error" in row]
    assert errors == ["no more"]
    assert len(fakes[0].lengths) == 7
    assert len(fakes[1].lengths) == fails_at
    whole = [row for row in rows if "error" not in row]
    assert [row["policy"] for row in whole] == [AUTOREGRESSIVE, *(["adaedl"] if fails_at == 6 else [])]


def test_what_is_done_is_reported_when_it_is_cut_off() -> None:
    held = contest(Fake("eager", AUTOREGRESSIVE), Fake("eager", "adaedl"))
    running = held.passes(5)
    for _ in range(2 + 6 + 3):
        next(running)
    running.close()
    assert [row["repeats"] for row in held.rows()] == [1, 1]


def test_a_plot_has_a_bar_for_everyone() -> None:
    held = contest(Fake(PEER, PLAIN), Fake("eager", AUTOREGRESSIVE), Fake("eager", "a<b", fails_at=2))
    list(held.passes(1))
    rows = [{"dtype": "float32", "prompt_tokens": None} | row for row in held.rows()]
    drawn = plot(rows, PEER)
    assert drawn.count("<rect") == 2
    assert 'class="peer"' in drawn
    assert "float32, temperature 0, 1 side by side" in drawn
