"""When something fails in the middle: a clear error, and nothing that was generated is lost."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from stopkit import Engine, GenerationError, InputError, PolicyError, Signals, State, StoppingPolicy
from stopkit.generation import Piece
from stopkit.plugins import registry
from tests.engines.conftest import PROMPTS

OPTIONS: dict[str, Any] = {"temperature": 0, "max_new_tokens": 30}


@contextmanager
def spoiled(model: Any, spoil: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Let `spoil(call, logits)` change what the model says."""
    forward, calls = model.forward, iter(range(10**6))

    def wrong(*args: Any, **options: Any) -> Any:
        output = forward(*args, **options)
        spoil(next(calls), output.logits)
        return output

    model.forward = wrong
    try:
        yield
    finally:
        del model.forward


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_draft_gone_bad_ends_that_rows_block_and_is_counted(
    engine: Engine, target: Any, draft: Any, value: float
) -> None:
    expected = engine.generate(PROMPTS, "static:length=3", **OPTIONS)

    def spoil(call: int, logits: Tensor) -> None:
        if call % 4 == 0:
            logits[1] = value

    with spoiled(draft, spoil):
        result = engine.generate(PROMPTS, "static:length=3", **OPTIONS)
    assert result.tokens == expected.tokens
    bad = [continuation.stats.nonfinite_drafts for continuation in result.continuations]
    assert bad[1] > 3
    assert result.stats.nonfinite_drafts == sum(bad) == bad[1]
    assert result.continuations[1].stats.drafted < expected.continuations[1].stats.drafted


def test_a_draft_that_is_always_bad_drafts_nothing(engine: Engine, draft: Any) -> None:
    with spoiled(draft, lambda call, logits: logits.fill_(float("nan")).sum()):
        result = engine.generate(PROMPTS[:1], "adaedl", **OPTIONS)
    assert result.stats.drafted == 0
    assert result.stats.nonfinite_drafts == result.stats.rounds - 1  # the last round has no room to draft
    assert len(result.tokens[0]) == 30


def test_a_target_gone_bad_is_an_error_with_what_was_produced(engine: Engine, target: Any) -> None:
    expected = engine.generate(PROMPTS, "static:length=3", **OPTIONS).tokens

    def spoil(call: int, logits: Tensor) -> None:
        if call == 4:
            logits[2, -1, 7] = float("nan")

    with (
        spoiled(target, spoil),
        pytest.raises(GenerationError, match=r"NaN or infinite after token \d+ of prompt 2") as caught,
    ):
        engine.generate(PROMPTS, "static:length=3", **OPTIONS)
    produced = caught.value.partial.tokens
    assert all(len(tokens) >= 4 for tokens in produced)
    assert produced == [full[: len(part)] for full, part in zip(expected, produced, strict=True)]


class Fragile(StoppingPolicy):
    """Raises, or answers nonsense, at its third round."""

    kind: ClassVar[str] = "fragile"
    verb: str
    answer: str = "raise"

    def init(self, batch_size: int, device: torch.device) -> State:
        return State(rows={"round": torch.zeros(batch_size, dtype=torch.long)})

    def plan(self, state: State, context: Any) -> Any:
        state = State(rows={"round": state.rows["round"] + 1})
        return self._answer("plan", state, context.limit.clamp(max=3)), state

    def admit(self, state: State, position: Tensor, signals: Signals) -> Any:
        return self._answer("admit", state, position < 9), state

    def extend(self, state: State, position: Tensor, signals: Signals, drawn: Any) -> Any:
        return self._answer("extend", state, position < 9), state

    def learn(self, state: State, outcome: Any) -> State:
        self._answer("learn", state, None)
        return state

    def _answer(self, verb: str, state: State, right: Any) -> Any:
        if verb != self.verb or state.rows["round"][0] < 3:
            return right
        if self.answer == "raise":
            raise ZeroDivisionError("no idea")
        return {"float": right.float(), "short": right[:1], "bare": 3}[self.answer]


@pytest.mark.parametrize("verb", ["plan", "admit", "extend", "learn"])
def test_a_policy_that_raises(engine: Engine, verb: str) -> None:
    expected = engine.generate(PROMPTS, "autoregressive", **OPTIONS).tokens
    with pytest.raises(PolicyError) as caught:
        engine.generate(PROMPTS, Fragile(verb=verb), **OPTIONS)
    source = Path(__file__).read_text(encoding="utf-8").splitlines()
    line = source.index('            raise ZeroDivisionError("no idea")') + 1
    where = f"policy 'fragile' (from module {__name__}), {verb}, line {line}"
    assert str(caught.value) == f"{where}: ZeroDivisionError: no idea"
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    produced = caught.value.partial.tokens
    assert all(len(tokens) >= 2 for tokens in produced)
    assert produced == [full[: len(part)] for full, part in zip(expected, produced, strict=True)]


@pytest.mark.parametrize(
    ("verb", "answer", "message"),
    [
        (
            "plan",
            "float",
            r"plan: TypeError: returned a decision of torch.float32 \[4\] on cpu; it must be torch.int64",
        ),
        ("admit", "short", r"admit: .* torch.bool \[1\] on cpu; it must be torch.bool \[4\] on cpu"),
        ("extend", "bare", "extend: .* returned int as its decision, not a tensor over the rows"),
    ],
)
def test_a_policy_whose_answer_is_no_decision(engine: Engine, verb: str, answer: str, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        engine.generate(PROMPTS, Fragile(verb=verb, answer=answer), **OPTIONS)


class Nosy(StoppingPolicy):
    """Reads a signal that it did not ask for."""

    kind: ClassVar[str] = "nosy"

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        return signals.entropy < 1, state


def test_reading_an_undeclared_signal(engine: Engine) -> None:
    with pytest.raises(PolicyError, match="signal 'entropy' was not computed; add it to the policy's `signals`"):
        engine.generate(PROMPTS, Nosy())


@pytest.mark.parametrize("stops", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("after", [1, 2, 10])
def test_a_callback_that_raises_takes_nothing_from_any_row(
    engine: Engine, stops: type[BaseException], after: int
) -> None:
    whole = engine.generate(PROMPTS, "static:length=2", **OPTIONS)
    seen: list[Piece] = []

    def interrupt(piece: Piece) -> None:
        seen.append(piece)
        if len(seen) == after:
            raise stops

    with pytest.raises(stops) as caught:
        engine.generate(PROMPTS, "static:length=2", on_piece=interrupt, **OPTIONS)
    partial = caught.value.partial  # type: ignore[attr-defined]
    assert partial.stats.tokens == sum(map(len, partial.tokens)) >= sum(len(piece.tokens) for piece in seen) > 0
    rounds = -(-after // len(PROMPTS))  # every row has a piece in every round
    for row, (continuation, complete) in enumerate(zip(partial.continuations, whole.tokens, strict=True)):
        stats, told = continuation.stats, [piece.tokens for piece in seen if piece.sequence == row]
        assert continuation.tokens == complete[: len(continuation.tokens)]
        assert list(chain(*told)) == continuation.tokens[: sum(map(len, told))]
        assert (stats.rounds, stats.tokens) == (rounds, stats.accepted + rounds)


class FailsToLearn(StoppingPolicy):
    """Raises at the end of its second round."""

    kind: ClassVar[str] = "fails_to_learn"
    rounds: ClassVar[list[int]] = []

    def learn(self, state: State, outcome: Any) -> State:
        self.rounds.append(1)
        if len(self.rounds) == 2:
            raise RuntimeError("no")
        return state


def test_a_policy_that_fails_to_learn_takes_nothing_either(engine: Engine) -> None:
    with pytest.raises(PolicyError) as caught:
        engine.generate(PROMPTS, FailsToLearn(), **OPTIONS)
    for continuation in caught.value.partial.continuations:
        stats = continuation.stats
        assert (stats.rounds, stats.tokens) == (2, stats.accepted + 2)


def test_drafting_without_a_draft_model(target: Any) -> None:
    engine = registry().engine("eager").from_models(target)
    assert len(engine.generate(PROMPTS, "autoregressive", **OPTIONS).tokens[0]) == 30
    with pytest.raises(InputError, match=r"no draft model; set engine\.draft"):
        engine.generate(PROMPTS, "static", **OPTIONS)


@pytest.mark.parametrize("vocabulary", [3, 60])
def test_a_draft_may_have_a_smaller_or_a_larger_vocabulary(target: Any, vocabulary: int) -> None:
    config = {**target.config.to_dict(), "vocab_size": vocabulary}
    draft = type(target)(type(target.config)(**config)).eval()
    engine = registry().engine("eager").from_models(target, draft)
    alone = registry().engine("eager").from_models(target)
    said = engine.generate(PROMPTS, "static:length=3", **OPTIONS | {"temperature": 0})
    assert said.tokens == alone.generate(PROMPTS, "autoregressive", **OPTIONS | {"temperature": 0}).tokens
    assert said.stats.drafted > 0
