"""A head learns what its trace says, and its file says where it comes from."""

import math
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from torch.nn.functional import binary_cross_entropy

from stopkit import InputError, load_policy
from stopkit.cli import main
from stopkit.costs import FixedCosts
from stopkit.trace.replay import replay
from stopkit.trace.trace import Trace
from stopkit_policies.head.examples import Examples
from stopkit_policies.head.network import HeadNetwork, load_head, read_card, save_head
from stopkit_policies.head.recipe import HeadRecipe
from stopkit_policies.head.training import Epoch, train_head
from tests.trace.hand_made import WIDTH, telling_trace

SMALL = HeadRecipe(layers=1, epochs=40, batch=64, learning_rate=0.01)
COSTS = [FixedCosts(draft_step=0.1, verify=1.0)]


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    return Trace.open(telling_trace(tmp_path_factory.mktemp("trace") / "t.parquet"))


def command(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["train-head", *map(str, arguments)])


def test_an_example_is_a_state_and_the_token_that_it_has_read(trace: Trace) -> None:
    examples = Examples.of(trace, 0.15)
    assert len(examples) == int((trace.drafted - 1).clamp(min=0).sum())
    assert torch.equal(examples.hidden_state[:, 0] > 0, examples.acceptance == 1)


def test_first_tokens_count_the_mixing_ratio(trace: Trace) -> None:
    examples = Examples.of(trace, 0.3)
    heavy, light = examples.weight.unique().flip(0).tolist()
    firsts = int((trace.drafted >= 2).sum())
    total = float(examples.weight.sum())
    assert total == pytest.approx(len(examples))
    shares = sorted([firsts * heavy / total, firsts * light / total])
    assert any(share == pytest.approx(0.3, rel=1e-5) for share in shares)


def test_the_head_finds_out_what_the_states_say(trace: Trace) -> None:
    seen: list[Epoch] = []
    trained = train_head(trace, SMALL, seen.append)
    assert [epoch.number for epoch in seen] == list(range(1, SMALL.epochs + 1))
    states = torch.zeros(2, WIDTH)
    states[:, 0] = torch.tensor([2.0, -2.0])
    accepts, rejects = trained.head(states).sigmoid().tolist()
    assert accepts > 0.9
    assert rejects < 0.1
    best = trained.card["best"]["validation_loss"]
    assert best == min(epoch.validation_loss for epoch in seen)
    assert best < 0.1 * trained.card["constant_validation_loss"]


def test_the_loss_is_the_papers(trace: Trace) -> None:
    """(6·(1 − a)·−log(1 − P) + a·−log P), over the weights; the constant's is worked out by hand."""
    card = train_head(trace, SMALL.model_copy(update={"epochs": 1})).card
    others, held_out = (
        Examples.of(trace.select([trace.sequences.index(name) for name in card[part]]), 0.15)
        for part in ("trained_on", "judged_by")
    )

    def counted(examples: Examples) -> tuple[float, float]:
        a, weight = examples.acceptance, examples.weight
        return float((a * weight).sum()), 6 * float(((1 - a) * weight).sum())

    accepted, rejected = counted(others)
    constant = accepted / (accepted + rejected)
    accepted, rejected = counted(held_out)
    expected = -(accepted * math.log(constant) + rejected * math.log(1 - constant)) / (accepted + rejected)
    assert card["constant_validation_loss"] == pytest.approx(expected, rel=1e-5)


def test_the_loss_weighs_rejections(trace: Trace) -> None:
    plain = train_head(trace, SMALL.model_copy(update={"rejection_weight": 1.0, "epochs": 1}))
    held_out = Examples.of(trace.select([trace.sequences.index(name) for name in plain.card["judged_by"]]), 0.15)
    chance = plain.head(held_out.hidden_state).sigmoid()
    expected = binary_cross_entropy(chance, held_out.acceptance, held_out.weight) / held_out.weight.mean()
    assert plain.card["best"]["validation_loss"] == pytest.approx(float(expected), rel=1e-4)


def test_no_sequence_is_on_both_sides(trace: Trace) -> None:
    card = train_head(trace, SMALL.model_copy(update={"epochs": 1, "validation": 0.4})).card
    assert len(card["judged_by"]) == 2
    assert sorted(card["trained_on"] + card["judged_by"]) == list(trace.sequences)


def test_a_seed_makes_the_same_head(trace: Trace) -> None:
    one, same, other = (
        train_head(trace, SMALL.model_copy(update={"seed": seed, "epochs": 2})).head.out.weight for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_the_command_writes_a_head_that_replays(trace: Trace, tmp_path: Path) -> None:
    out = tmp_path / "head.safetensors"
    done = command("--trace", trace.path, "--out", out, "--layers", 1, "--epochs", 3, "--learning-rate", 0.01)
    assert done.exit_code == 0, done.stderr
    assert "epoch 3 of 3: loss" in done.stderr
    assert load_head(out).width == WIDTH
    card = read_card(out)
    assert card["recording"] == trace.metadata.common
    assert card["recipe"]["epochs"] == 3
    assert len(card["losses"]) == 3
    policy = load_policy({"kind": "acceptance_head", "weights": str(out)})
    whole, part = replay(trace, policy, COSTS)[0], replay(trace.select([3, 1]), policy, COSTS)[0]
    assert part.sequences == (whole.sequences[3], whole.sequences[1])
    assert whole.stats.drafted != replay(trace, load_policy("acceptance_head"), COSTS)[0].stats.drafted


def test_hidden_states_are_read_only_when_asked_for(trace: Trace) -> None:
    assert "hidden_state" not in trace.columns
    part = trace.select([2, 0]).shortened(5)
    column = part.with_hidden_state.columns["hidden_state"]
    whole = Trace.open(trace.path, hidden_state=True)
    assert torch.equal(column, whole.select([2, 0]).shortened(5).columns["hidden_state"])


def test_a_trace_without_hidden_states_is_refused(tmp_path: Path) -> None:
    trace = telling_trace(tmp_path / "t.parquet", hidden=False)
    done = command("--trace", trace, "--out", tmp_path / "head.safetensors")
    assert done.exit_code == 2
    assert "has no hidden states; record it with --hidden-state" in done.stderr
    head = telling_trace(tmp_path / "h.parquet")
    assert command("--trace", head, "--out", tmp_path / "x.safetensors", "--epochs", 1).exit_code == 0
    policy = load_policy({"kind": "acceptance_head", "weights": str(tmp_path / "x.safetensors")})
    with pytest.raises(InputError, match="reads hidden_state; record with --hidden-state"):
        replay(Trace.open(trace), policy, COSTS)


def test_one_sequence_is_too_few(tmp_path: Path) -> None:
    trace = telling_trace(tmp_path / "t.parquet", sequences=1)
    done = command("--trace", trace, "--out", tmp_path / "head.safetensors")
    assert done.exit_code == 2
    assert "needs at least 2" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--out", "head.pt"], "ends in .safetensors"),
        (["--out", "head.safetensors", "--mixing-ratio", "1.5"], "train-head.mixing_ratio"),
        (["--out", "no/such/folder/head.safetensors"], "its folder does not exist"),
    ],
)
def test_wrong_options(trace: Trace, arguments: list[str], line: str) -> None:
    done = command("--trace", trace.path, *arguments)
    assert done.exit_code == 2
    assert line in done.stderr


def test_a_head_of_another_width_is_wrong_input(trace: Trace, tmp_path: Path) -> None:
    save_head(HeadNetwork(WIDTH + 1, 1), {}, tmp_path / "wide.safetensors")
    arguments = ["trace", "replay", trace.path, "--policy", f"acceptance_head:weights={tmp_path / 'wide.safetensors'}"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert f"is for hidden states of {WIDTH + 1} numbers, and this draft's have {WIDTH}" in done.stderr
