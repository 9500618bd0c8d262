"""A policy that fails costs its own effect and no token; what is not served is refused by name."""

from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from vllm import SamplingParams

from stopkit import Drawn, InputError, PolicyError, RoundContext, RoundOutcome, Signals, State, StoppingPolicy
from stopkit_vllm.equipping import equip
from work import generate, served, statistics


class Failing(StoppingPolicy):
    """Fails in one of its verbs after a while."""

    kind: ClassVar[str] = "failing"
    verb: str
    after: int = 7

    def init(self, batch_size: int, device: torch.device) -> State:
        return State(shared={"calls": torch.zeros(())})

    def _called(self, verb: str, state: State) -> State:
        calls = state.shared["calls"] + (verb == self.verb)
        if calls > self.after:
            raise ArithmeticError("enough")
        return State(shared={"calls": calls})

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return context.limit, self._called("plan", state)

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        return torch.ones_like(position, dtype=torch.bool), self._called("admit", state)

    def extend(self, state: State, position: Tensor, signals: Signals, drawn: Drawn) -> tuple[Tensor, State]:
        return torch.ones_like(position, dtype=torch.bool), self._called("extend", state)

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        return self._called("learn", state)


@pytest.fixture(scope="module")
def lenient() -> Any:
    options = {"policy": "static", "strict": False}
    return served(max_num_seqs=8, max_model_len=256, additional_config={"stopkit": options})


@pytest.mark.parametrize("verb", ["plan", "admit", "extend", "learn"])
def test_vllm_drafts_by_itself_after_a_failure(lenient: Any, plain: Any, caplog: Any, verb: str) -> None:
    lenient.collective_rpc("stopkit_use", args=(Failing(verb=verb),))
    assert statistics(lenient)["policy"]["kind"] == "failing"
    assert generate(lenient, "eight") == plain("eight")
    assert statistics(lenient) == {}, "it is asked no more"
    assert caplog.text.count("ArithmeticError: enough; vLLM drafts by itself from here on") == 1
    assert f"policy 'failing' (from module {__name__}), {verb}, line" in caplog.text


def test_a_token_whose_extend_failed_stays_in_its_block(lenient: Any) -> None:
    lenient.collective_rpc("stopkit_use", args=(Failing(verb="extend", after=2),))
    asking = lenient.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker.model_runner.drafter.asking
    rounds, blocks = asking.rounds, []
    close = rounds.close
    rounds.close = lambda tokens: blocks.append(close(tokens)) or blocks[-1]
    lenient.generate([{"prompt_token_ids": [400, 500]}], SamplingParams(temperature=0.0, max_tokens=16), use_tqdm=False)
    assert [len(block) for block in blocks[0]] == [3], "extend failed after it was shown the third"


def test_a_strict_engine_stops(llm: Any, use: Any) -> None:
    use(Failing(verb="plan", after=0))
    with pytest.raises(PolicyError, match="ArithmeticError: enough"):
        generate(llm, "eight")


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("adadel", "stopkit.policy.kind: unknown kind 'adadel'. Did you mean 'adaedl'?"),
        ("adaedl:threshold=2", "stopkit.policy.threshold:"),
        ("entropy_gate", "reads the target's entropy, which vLLM does not tell"),
    ],
)
def test_what_is_no_policy_is_refused(llm: Any, policy: str, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        llm.collective_rpc("stopkit_use", args=(policy,))


class NgramProposer:
    """One that drafts a block at once."""


@pytest.mark.parametrize(
    ("speculative", "message"),
    [
        (None, "there is nothing to stop without --speculative-config"),
        (SimpleNamespace(method="ngram"), "NgramProposer, for the speculative method 'ngram', asks nobody"),
    ],
    ids=["none", "ngram"],
)
def test_what_is_not_served_is_refused(speculative: Any, message: str) -> None:
    scheduler = SimpleNamespace(scheduler_cls=None)
    asked = SimpleNamespace(additional_config={"stopkit": {"policy": "static"}}, scheduler_config=scheduler)
    runner = SimpleNamespace(vllm_config=asked, speculative_config=speculative, drafter=NgramProposer())
    with pytest.raises(InputError, match=message):
        equip(runner)


def test_what_is_not_asked_for_stays_as_it_is() -> None:
    runner = SimpleNamespace(vllm_config=SimpleNamespace(additional_config={}), speculative_config=None)
    equip(runner)
    assert not hasattr(runner, "drafter")
