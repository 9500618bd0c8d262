"""Small things that are right: each was once broken on purpose without any other test falling."""

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from stopkit import Drawn, InputError, RoundContext, RoundOutcome, Signals, State, StoppingPolicy
from stopkit.controller import DraftController
from stopkit.testing import TableModel, exact_output_distribution
from stopkit_engines.eager import EagerEngine
from tests.engines.conftest import PROMPTS
from tests.engines.models import random_model


class Counts(StoppingPolicy):
    """Counts its verbs in every row, and writes into what it is given."""

    kind: ClassVar[str] = "counts"

    def init(self, batch_size: int, device: torch.device) -> State:
        zeros = torch.zeros(batch_size, dtype=torch.long, device=device)
        return State(rows={name: zeros.clone() for name in ("plan", "admit", "extend", "learn")})

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return context.limit.clamp(max=3), state.put(plan=state["plan"] + 1)

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        position.add_(7)
        return torch.ones_like(position, dtype=torch.bool), state.put(admit=state["admit"] + 1)

    def extend(self, state: State, position: Tensor, signals: Signals, drawn: Drawn) -> tuple[Tensor, State]:
        position.sub_(3)
        return torch.ones_like(position, dtype=torch.bool), state.put(extend=state["extend"] + 1)

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        return state.put(learn=state["learn"] + 1)


def counted(controller: DraftController) -> dict[str, list[int]]:
    return {name.removeprefix("rows."): value.tolist() for name, value in controller.state.flat().items()}


def test_rows_that_do_not_take_part_keep_their_state() -> None:
    controller = DraftController(Counts(), 3)
    active = torch.tensor([True, True, False])  # the last one is finished
    controller.plan(controller.context(4, active=active))
    assert counted(controller)["plan"] == [1, 1, 0]
    q = torch.full((3, 2), 0.5)
    usable = torch.tensor([True, False, True])
    controller.admit(q, usable)
    assert counted(controller)["admit"] == [1, 0, 0]
    controller.extend(Drawn(torch.zeros(3, dtype=torch.long), q[:, 0]))
    assert counted(controller)["extend"] == [1, 0, 0]
    controller.learn(torch.tensor([1, 0, 0]), 1.0)
    assert counted(controller)["learn"] == [1, 1, 0]


def test_what_a_policy_writes_into_reaches_nothing() -> None:
    controller = DraftController(Counts(), 2)
    drafting, lengths = controller.plan(8), []
    while drafting:
        q = torch.full((2, 2), 0.5)
        if drafting := controller.admit(q):
            drafting = controller.extend(Drawn(torch.zeros(2, dtype=torch.long), q[:, 0]))
        lengths.append(controller.drafted.tolist())
    assert lengths == [[1, 1], [2, 2], [3, 3]]


def test_as_much_is_drafted_as_can_be_used() -> None:
    model = random_model()
    result = EagerEngine.from_models(model, model).generate([[3]], "static:length=20", max_new_tokens=9, temperature=0)
    assert (result.stats.rounds, result.stats.drafted, result.stats.accepted) == (1, 8, 8)


def test_reading_a_prompt_is_no_draft_step() -> None:
    model = random_model()
    engine = EagerEngine.from_models(model, model)
    generation = engine.begin([list(range(30))], "static:length=4", max_new_tokens=30, temperature=0)
    generation.step()
    known = generation.controller.costs
    assert (known._first[0], known._line[0] + known._empty[0]) == (0, 0)
    generation.step()
    assert known._first[0] > 0


def test_a_draft_is_asked_up_to_its_own_context_and_no_further() -> None:
    sizes: dict[str, Any] = {"vocab_size": 40, "bos_token_id": None, "eos_token_id": None}
    torch.manual_seed(0)
    draft = GPT2LMHeadModel(GPT2Config(n_positions=12, n_embd=16, n_layer=1, n_head=2, **sizes)).eval()
    seen: list[int] = []
    forward = draft.forward

    def watched(*args: Any, position_ids: Tensor, **rest: Any) -> Any:
        seen.append(int(position_ids.max()))
        return forward(*args, position_ids=position_ids, **rest)

    engine = EagerEngine.from_models(random_model("gpt2"), draft)
    draft.forward = watched  # type: ignore[method-assign]
    result = engine.generate([[3, 4, 5]], "static:length=3", max_new_tokens=30, seed=3)
    assert len(result.tokens[0]) == 30
    assert max(seen) == 10  # the twelfth token could be drafted, and none after it: nothing follows its context


def test_the_draft_is_processed_on_the_whole_prefix() -> None:
    def on_the_last(ids: Tensor, scores: Tensor) -> Tensor:
        return scores.masked_fill((torch.arange(scores.shape[1]) + ids[0, -1] + ids.shape[1]) % 3 == 0, -torch.inf)

    model = random_model()
    engine = EagerEngine.from_models(model, model)
    result = engine.generate(PROMPTS, "static:length=4", max_new_tokens=40, logits_processor=[on_the_last])
    assert result.stats.acceptance_rate == pytest.approx(1, abs=0.01)


class Coin(StoppingPolicy):
    """Drafts more every time it is asked, whatever the situation."""

    kind: ClassVar[str] = "coin"
    asked: ClassVar[list[int]] = []

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        self.asked.append(1)
        return (context.limit * 0 + len(self.asked) % 3).clamp(max=context.limit), state


def test_a_policy_that_is_not_deterministic_is_named_by_the_exact_proof() -> None:
    generator = torch.Generator().manual_seed(5)
    target, draft = (TableModel.random(3, generator, scale=1.0) for _ in range(2))
    with pytest.raises(InputError, match="is the policy deterministic"):
        exact_output_distribution(Coin(), target, draft, [0, 1], 3, rows=1)
