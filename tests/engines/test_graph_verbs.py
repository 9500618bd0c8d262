"""Verbs as functions of tensors decide and learn what the policy does; what is compiled of them says the same."""

from operator import attrgetter
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import stopkit
from stopkit import Drawn, InputError, Signals, State, StoppingPolicy, load_policy
from stopkit.plugins import registry
from stopkit_engines import compiled
from stopkit_engines.compiled import Backend, CompiledEngine
from stopkit_engines.eager import EagerEngine
from stopkit_engines.graphs import sources, verbs
from stopkit_engines.graphs.artefacts import CannotCompile, Graph
from stopkit_engines.graphs.trees import leaves, rebuilt
from stopkit_engines.graphs.verbs import GraphVerbs, WantedVerb
from tests.engines.conftest import PROMPTS

SIGNALS = Signals(entropy=torch.tensor([0.5]), max_probability=torch.tensor([0.6]), margin=torch.tensor([0.2]))


def plain(policy: str) -> dict[str, tuple[Graph, WantedVerb]]:
    """The verbs that are worth graphs, as they are."""
    return {name: (each.wanted.plain, each) for name, each in verbs.wanted_verbs(load_policy(policy), SIGNALS).items()}


@pytest.fixture
def flattened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the compiled engine call verbs by their tensors, but compile nothing."""
    backend = Backend(compiled.nothing, attrgetter("plain"), of_verbs=True)
    monkeypatch.setitem(compiled.BACKENDS, "cpu", backend)


@pytest.mark.parametrize("kind", sorted(registry().policies))
@pytest.mark.usefixtures("flattened")
def test_every_policy_drafts_as_it_does_by_itself(target: Any, draft: Any, kind: str) -> None:
    costs = {"costs": {"draft_step": 0.1, "verify": 1.0, "verify_token": 0.02}}
    own, policy = verbs.WORTH, load_policy(kind)
    verbs.WORTH = 0  # of all verbs, small ones too
    try:
        engines = EagerEngine.from_models(target, draft, **costs), CompiledEngine.from_models(target, draft, **costs)
        said, wanted = (
            engine.generate(PROMPTS[:1], policy, max_new_tokens=40, temperature=0.8, seed=5) for engine in engines[::-1]
        )
    finally:
        verbs.WORTH = own
    assert said.tokens == wanted.tokens
    assert said.stats.offered_by_position == wanted.stats.offered_by_position
    assert said.state.matches(wanted.state)
    for name, value in wanted.state.flat().items():
        torch.testing.assert_close(said.state.flat()[name], value, equal_nan=True, atol=1e-4, rtol=1e-4)


def test_trees_are_flat_and_whole_again() -> None:
    state = State({"b": torch.tensor([1.0])}, {"a": torch.tensor(2.0)}, (State({"c": torch.tensor([3.0])}),))
    tree = (state, SIGNALS, [torch.tensor(4.0)], None)
    flat = leaves(tree)
    assert [float(value) for value in flat] == pytest.approx([3.0, 1.0, 2.0, 0.5, 0.2, 0.6, 4.0])
    again = rebuilt(tree, iter([value + 1 for value in flat]))
    assert again[0].matches(state)
    assert float(again[0].parts[0].rows["c"]) == 4.0
    assert float(again[1].margin) == pytest.approx(1.2)
    assert leaves(rebuilt(tree, iter(flat))) == flat


def test_verbs_of_few_operations_stay_as_they_are() -> None:
    assert not plain("static")
    assert set(plain("goodput")) == {"plan", "extend", "learn"}


def test_what_has_another_form_than_when_it_was_captured_is_given_to_the_policy() -> None:
    calls: list[str] = []
    policy = load_policy("goodput")
    counted = {
        name: (lambda *flat, run=graph: calls.append("") or run(*flat), each)
        for name, (graph, each) in plain("goodput").items()
    }
    by_graph, state = GraphVerbs(policy, counted), policy.init(1, torch.device("cpu"))
    position = torch.zeros(1, dtype=torch.long)
    for dtype, count in ((torch.float32, 1), (torch.float64, 0)):
        drawn, calls[:] = Drawn(position, torch.tensor([0.4], dtype=dtype)), []
        said, kept = by_graph.extend(state, position, SIGNALS, drawn)
        wanted, after = policy.extend(state, position, SIGNALS, drawn)
        assert len(calls) == count
        assert said.tolist() == wanted.tolist()
        torch.testing.assert_close(kept.flat(), after.flat())


class Wrong(StoppingPolicy):
    """Fails where it is asked to admit."""

    kind: ClassVar[str] = "wrong"
    error: ClassVar[Exception] = KeyError("threshold")

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        raise self.error


def test_a_policy_that_fails_on_an_example_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CannotCompile, match=r"admit fails on an example, 'threshold'"):
        verbs.wanted_verbs(Wrong(), SIGNALS)
    monkeypatch.setattr(Wrong, "error", InputError("policy.weights: no"))
    with pytest.raises(InputError, match=r"policy\.weights"):
        verbs.wanted_verbs(Wrong(), SIGNALS)


def test_graphs_are_those_of_a_policys_fields_and_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def about(policy: str) -> dict[str, Any]:
        wanted = verbs.wanted_verbs(load_policy(policy), SIGNALS)
        return {name: each.wanted.about() for name, each in wanted.items()}

    assert about("adaedl") == about("adaedl")
    assert about("adaedl") != about("adaedl:threshold=0.4")
    before = about("adaedl")
    monkeypatch.setattr(sources, "of_policy", lambda policy: "changed")
    assert about("adaedl") != before
    assert stopkit.__version__  # the version is in the conditions of every graph
