"""The trained head: beside its reference, in every engine, and what happens to files that hold none."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from stopkit import DraftController, Drawn, InputError, Signals, load_policy
from stopkit.kinds import as_block
from stopkit_policies.head.network import HeadNetwork, load_head, read_card, save_head
from tests.policies.blocks import HUNDREDTHS, blocks
from tests.policies.lockstep import VOCABULARY, Run, agree, runs

CARD = {"trained_on": [0, 1]}


def written(path: Path, width: int = VOCABULARY, layers: int = 2, seed: int = 0) -> Path:
    """A head with random weights, large enough for its answers to differ."""
    torch.manual_seed(seed)
    head = HeadNetwork(width, layers)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(3)
    save_head(head, CARD, path)
    return path


@pytest.fixture(scope="module", params=[0, 2])
def weights(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("heads") / "head.safetensors", layers=request.param)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    block=blocks("acceptance_head", threshold=HUNDREDTHS, min_draft=st.integers(0, 4), max_draft=st.integers(0, 5)),
    run=runs(rounds=3),
)
def test_with_a_head(weights: Path, block: dict[str, Any], run: Run) -> None:
    agree({**block, "weights": str(weights)}, replace(run, dtype=torch.float64))  # the reference computes in it


@given(block=blocks("acceptance_head", threshold=HUNDREDTHS, min_draft=st.integers(0, 4)), run=runs(rounds=3))
def test_without_a_head_it_is_joint_confidence(block: dict[str, Any], run: Run) -> None:
    agree(block, run)
    twin = load_policy({"threshold": 0.3, **block, "kind": "joint_confidence"})
    assert twin.required_signals == load_policy(block).required_signals == {"max_probability"}


def test_every_field_is_kept(weights: Path) -> None:
    policy = load_policy(f"acceptance_head:weights={weights},threshold=0.6")
    assert policy.required_signals == {"hidden_state"}
    assert load_policy(as_block(policy)) == policy
    assert read_card(weights) == CARD


def test_the_head_decides_without_a_break_in_its_graph(weights: Path) -> None:
    policy = load_policy({"kind": "acceptance_head", "weights": str(weights)})
    state = policy.init(2, torch.device("cpu"))
    position, hidden = torch.tensor([1, 0]), torch.tensor([[0.5, -1.0, 2.0], [1.0, 1.0, 1.0]])
    drawn = Drawn(torch.tensor([0, 1]), torch.tensor([0.5, 0.5]))

    def extend(hidden_state: torch.Tensor) -> torch.Tensor:
        return policy.extend(state, position, Signals(hidden_state=hidden_state), drawn)[1]["joint"]

    alone = extend(hidden)
    assert alone[0] < 1
    assert alone[1] == 1, "nothing has been judged before position 0"
    compiled = torch.compile(extend, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(hidden), alone)


def test_a_head_for_another_draft_says_so(weights: Path) -> None:
    controller = DraftController(load_policy({"kind": "acceptance_head", "weights": str(weights)}), 1)
    controller.plan(4)
    controller.admit(Signals(hidden_state=torch.zeros(1, 7)))
    with pytest.raises(InputError, match=r"is for hidden states of 3 numbers, and this draft's have 7; train"):
        controller.extend(Drawn(torch.tensor([0]), torch.tensor([1.0])))


@pytest.mark.parametrize("how", ["plain pickle", "torch.save"])
def test_pickles_are_refused_unread(how: str, tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    if how == "torch.save":
        torch.save({"out.weight": torch.zeros(1, 3)}, path)
    else:
        path.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(InputError, match=r"policy.weights: .*is pickled, and unpickling runs code"):
        load_policy({"kind": "acceptance_head", "weights": str(path)})
    assert not (tmp_path / "sprung").exists()


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_other_files_are_no_heads(tmp_path: Path) -> None:
    good, path = written(tmp_path / "good.safetensors"), tmp_path / "bad.safetensors"

    def reason() -> str:
        with pytest.raises(ValueError, match="bad") as refused:
            load_head(path)
        return str(refused.value)

    assert "cannot be read: No such file" in reason()
    path.write_bytes(good.read_bytes()[:-8])
    assert "is not a whole safetensors file" in reason()
    save_file({"out.weight": torch.zeros(1, 3)}, path)
    assert "holds no acceptance head" in reason()
    head = HeadNetwork(3, 1)
    with torch.no_grad():
        head.out.bias.fill_(torch.nan)
    save_head(head, CARD, path)
    assert "NaN or infinite" in reason()
    head = HeadNetwork(3, 1)
    head.blocks[0] = torch.nn.Linear(3, 2)
    save_head(head, CARD, path)
    assert "blocks.0.bias is [2] where the head has [3]" in reason()
