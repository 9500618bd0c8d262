"""`Rounds` without vLLM: what is learned of blocks that are cut, lost or somebody else's."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from stopkit import Drawn, InputError, Signals, load_policy
from stopkit.costs import FixedCosts
from stopkit_vllm.drawing import draw
from stopkit_vllm.limits import limit_of, stop_tokens
from stopkit_vllm.options import Options, options_of
from stopkit_vllm.refusals import REFUSED, REFUSED_AT_MEASURED_COSTS, require_served
from stopkit_vllm.repair import expand_batch_to_tokens
from stopkit_vllm.rounds import Rounds, Verdict
from stopkit_vllm.scheduler import Plans

CPU = torch.device("cpu")


def round_(rounds: Rounds, names: list[str], most: int = 3, token: int = 5) -> list[list[int]]:
    """Every request drafts `most` times the same token."""
    tokens = []
    drafting = rounds.plan(names, [most] * len(names), names)
    while drafting:
        rounds.step()
        if drafting := rounds.admit(Signals(), torch.ones(len(names), dtype=torch.bool)):
            tokens.append(torch.full((len(names),), token))
            drafting = rounds.extend(Drawn(tokens[-1], torch.ones(len(names))), tokens[-1] > 0)
    return rounds.close(tokens)


def test_what_was_verified_is_counted() -> None:
    rounds = Rounds(load_policy("static:length=3"), CPU)
    assert round_(rounds, ["a", "b"]) == [[5, 5, 5], [5, 5, 5]]
    rounds.learn({"a": Verdict([5, 5, 5], 3), "b": Verdict([5], 2)})  # the scheduler had cut the second
    counts = rounds.statistics
    assert (counts.rounds, counts.drafted, counts.accepted, counts.tokens) == (2, 4, 3, 5)
    assert (counts.draft_forwards, counts.target_forwards) == (3, 1)


@pytest.mark.parametrize(
    "verdict",
    [None, Verdict([0] * 8, 1), Verdict([-1] * 8, 1), Verdict([5, 6, 5], 1), Verdict([5, 5, 5], 0)],
    ids=["left out", "zeros", "placeholders", "other tokens", "reads"],
)
def test_blocks_that_are_not_ours_are_not_counted(verdict: Verdict | None) -> None:
    rounds = Rounds(load_policy("heuristic"), CPU)
    round_(rounds, ["a"])
    rounds.learn({} if verdict is None else {"a": verdict})
    assert rounds.statistics.rounds == 0


def test_requests_keep_what_was_learned_until_they_end() -> None:
    rounds = Rounds(load_policy("heuristic"), CPU)
    round_(rounds, ["a", "b"])
    rounds.learn({"a": Verdict([5, 5, 5], 4), "b": Verdict([5, 5, 5], 1)})
    rounds.plan(["b"], [3], ["a", "b"])
    rounds.learn({})
    rounds.plan(["a", "b"], [9, 9], ["a", "b"])
    assert rounds._controller.state["length"].tolist() == [7, 4]
    rounds.learn({})
    rounds.plan(["b", "c"], [9, 9], ["b", "c"])
    assert rounds._controller.state["length"].tolist() == [4, 5]
    assert rounds.statistics.accepted == 3, "a has ended, and is still counted"


def test_costs_are_learned_from_rounds_without_prompts() -> None:
    rounds = Rounds(load_policy("static:length=3"), CPU)
    known = rounds.costs
    round_(rounds, ["a"])
    rounds.learn({"a": Verdict([5, 5, 5], 4)})
    assert rounds.costs == known, "a had a prompt to read"
    round_(rounds, ["a"])
    rounds.learn({"a": Verdict([5, 5, 5], 4)})
    measured = rounds.costs
    assert 0 < measured["verify"] < known["verify"]
    assert 0 < measured["first_step"] < measured["verify"]


class Request:
    """What a limit depends on."""

    def __init__(self, prompt: int = 10, output: int = 0, **sampling: Any) -> None:
        given: dict[str, Any] = {"max_tokens": 20, "min_tokens": 0, "stop_token_ids": [7], "ignore_eos": False}
        given |= {"eos_token_id": 2, "structured_outputs": None, "temperature": 1.0}
        self.sampling_params = type("Sampling", (), given | sampling)
        self.output_token_ids = [1] * output
        self.num_prompt_tokens = prompt


@pytest.mark.parametrize(
    ("request_", "emitted", "token", "limit"),
    [
        (Request(), 1, 5, 8),
        (Request(), 0, 5, None),
        (Request(output=14), 1, 5, 4),
        (Request(output=18), 1, 5, 0),
        (Request(output=19), 1, 5, None),
        (Request(), 1, 7, None),
        (Request(), 1, 2, None),
        (Request(ignore_eos=True), 1, 2, 8),
        (Request(min_tokens=5), 1, 7, 8),
        (Request(prompt=85), 1, 5, 8),
        (Request(prompt=95), 1, 5, 3),
        (Request(max_tokens=None, prompt=95), 1, 5, 3),
        (Request(structured_outputs="x"), 1, 5, 0),
        (Request(structured_outputs="x", temperature=0.0), 1, 5, 8),
    ],
)
def test_the_most_that_is_worth_drafting(request_: Request, emitted: int, token: int, limit: int | None) -> None:
    assert limit_of(request_, emitted, token, 8, 100, sampled=True) == limit


def test_stop_tokens() -> None:
    assert stop_tokens(Request()) == {2, 7}
    assert stop_tokens(Request(ignore_eos=True, stop_token_ids=None)) == frozenset()


def test_rows_of_one_step_have_temperatures_of_their_own() -> None:
    logits = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
    q = torch.softmax(logits, -1)
    step = draw(logits, logits, {"max_probability"}, torch.tensor([0.0, 1.0]), lambda _: (torch.tensor([0, 1]), q))
    assert step.drawn.probability.tolist() == pytest.approx([1.0, float(q[1, 1])])
    assert step.signals.max_probability.tolist() == pytest.approx([float(q[0, 0])] * 2)
    taken = draw(logits, logits, {"logits"}, None, None)
    assert (taken.token.tolist(), taken.probability.tolist(), taken.q) == ([0, 0], [1.0, 1.0], None)
    assert not draw(logits.fill_(torch.nan), logits, (), None, None).usable.any()


def test_options(monkeypatch: pytest.MonkeyPatch) -> None:
    config = type(
        "Config", (), {"additional_config": {"stopkit": {"policy": "svip", "costs": {"draft_step": 1, "verify": 2}}}}
    )
    options = options_of(config)
    assert options is not None
    assert (options.policy, options.costs) == (load_policy("svip"), FixedCosts(draft_step=1, verify=2))
    assert options_of(SimpleNamespace(additional_config={})) is None
    monkeypatch.setenv("STOPKIT_POLICY", "margin")
    named = options_of(SimpleNamespace(additional_config={}))
    assert named is not None
    assert named.policy == load_policy("margin")
    assert options_of(config) == options, "what is said in the config counts"
    config.additional_config["stopkit"]["polcy"] = "margin"
    with pytest.raises(InputError, match=r"stopkit.polcy: unknown field. Did you mean 'policy'"):
        options_of(config)


def test_what_a_policy_cannot_work_with() -> None:
    known = {**REFUSED, **REFUSED_AT_MEASURED_COSTS}

    def config(**wrong: int) -> Any:
        parts: dict[str, dict[str, int]] = {}
        for place, (most, _) in known.items():
            part, name = place.split(".")
            parts.setdefault(part, {})[name] = wrong.get(name, most)
        return SimpleNamespace(**{part: SimpleNamespace(**fields) for part, fields in parts.items()})

    require_served(config(), Options())
    for place, (most, reason) in known.items():
        with pytest.raises(InputError, match=f"stopkit: {place} is {most + 1}: {reason}"):
            require_served(config(**{place.split(".")[1]: most + 1}), Options())
    fixed = Options(costs=FixedCosts(draft_step=1, verify=2))
    require_served(config(tensor_parallel_size=2), fixed)


def test_the_repaired_expansion() -> None:
    x, ends = torch.tensor([0.5, 0.0, 2.0]), torch.tensor([2, 2, 5], dtype=torch.int32)
    assert expand_batch_to_tokens(x, ends, 5, 0, 1).tolist() == [0.5, 0.5, 2.0, 2.0, 2.0]


def test_one_length_a_step() -> None:
    plans = Plans(Options(policy=load_policy("heuristic")), most=8)
    assert plans.length(["a", "b"]) == 5
    plans.note("a", 5, 5)
    plans.note("b", 5, 1)
    assert plans.length(["a", "b"]) == 7
    assert plans.length(["b"]) == 4
    assert plans.length(["b", "c"]) == 5, "c is new"
    with pytest.raises(InputError, match="policy 'adaedl' looks at tokens"):
        Plans(Options(policy=load_policy("adaedl")), most=8)
    with pytest.raises(InputError, match="needs a policy"):
        Plans(None, most=8)
