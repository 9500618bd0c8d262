"""What a recording says of every position is what plain forwards over whole prefixes say."""

from typing import Any

import pytest
import torch
from torch import Tensor

from stopkit import Engine, GenerationError, InputError
from stopkit.generation import GenerationOptions
from stopkit.plugins import registry
from stopkit.random import sequence_seeds
from stopkit.sampling import softmax
from stopkit.testing import TableModel
from stopkit.trace.recorder import RecordingRequest, Rollouts
from tests.engines.conftest import PROMPTS
from tests.engines.models import noisy_copy, random_model

SAMPLINGS: list[dict[str, Any]] = [{"temperature": 0}, {}, {"temperature": 0.7, "top_k": 5}]


def recorded(engine: Engine, prompts: Any = PROMPTS, max_draft: int = 4, **options: Any) -> list[Rollouts]:
    more = {name: options.pop(name) for name in list(options) if name in RecordingRequest.__dataclass_fields__}
    made = GenerationOptions(**{"max_new_tokens": 7, **options})
    numbers = range(len(prompts))
    seeds = sequence_seeds(made.seed, len(prompts))
    return list(engine.record(RecordingRequest(prompts, numbers, seeds, made, max_draft, **more)))


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_columns(engine: Engine, target: Any, draft: Any, sampling: dict[str, Any]) -> None:
    options = GenerationOptions(**sampling)
    found = recorded(engine, rollouts=3, top_k_logits=3, hidden_state=True, **sampling)
    for prompt, rollouts in zip(PROMPTS, found, strict=True):
        output = rollouts.output.tolist()
        assert rollouts.length is not None
        assert rollouts.entropy is not None
        assert rollouts.length.tolist() == [len(prompt) + start for start in range(len(output))]
        for start, drafted in enumerate(rollouts.drafted.tolist()):
            seen, on_path = [*prompt, *output[:start]], True
            of_target = target(input_ids=torch.tensor([seen])).logits[0, -1]
            close(rollouts.entropy[start], nats(as_shown(options, of_target)))
            for position in range(drafted):
                row = {name: column[start, position] for name, column in rollouts.columns.items()}
                of_draft = draft(input_ids=torch.tensor([seen]), output_hidden_states=True)
                p = options.probabilities(target(input_ids=torch.tensor([seen])).logits[0, -1])
                logits, token = of_draft.logits[0, -1], int(row["token"])
                q = options.probabilities(logits)
                shown = as_shown(options, logits)
                two = shown.topk(2).values
                on_path = on_path and token == output[start + position]
                close(row["entropy"], nats(shown))
                assert row["top_token"] == shown.argmax()
                close(row["max_probability"], two[0])
                close(row["margin"], two[0] - two[1])
                close(row["drawn_probability"], q[token])
                close(row["beta"], torch.minimum(p, q).sum())
                close(row["acceptance"], (p[token] / q[token]).clamp(max=1))
                close(row["top_logits"], logits.topk(3).values)
                close(row["hidden_state"], of_draft.hidden_states[-1][0, -1])
                assert row["top_tokens"].tolist() == logits.topk(3).indices.tolist()
                assert bool(row["accepted"]) == on_path
                seen.append(token)


def as_shown(options: GenerationOptions, logits: Tensor) -> Tensor:
    return softmax(logits) if options.temperature == 0 else options.probabilities(logits)


def nats(distribution: Tensor) -> Tensor:
    return -(distribution * distribution.clamp_min(1e-30).log()).sum()


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=2e-4)


def test_the_output_is_the_targets_own(engine: Engine) -> None:
    made = engine.generate(PROMPTS, "autoregressive", max_new_tokens=7, temperature=0)
    assert [rollouts.output.tolist() for rollouts in recorded(engine, temperature=0)] == made.tokens


@pytest.mark.parametrize("changed", [{"batch_size": 1}, {"batch_size": 3}, {"rollouts": 1}, {"rollouts": 5}], ids=str)
def test_it_does_not_depend_on_what_runs_side_by_side(engine: Engine, changed: dict[str, Any]) -> None:
    for one, other in zip(recorded(engine), recorded(engine, **changed), strict=True):
        same(one, other)


def same(one: Rollouts, other: Rollouts) -> None:
    assert one.columns.keys() == other.columns.keys()
    for name in ("output", "limit", "drafted", "length"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    there = torch.arange(int(one.drafted.max())) < one.drafted.unsqueeze(1)
    for name, column in one.columns.items():
        torch.testing.assert_close(column[there], other.columns[name][there], atol=1e-4, rtol=1e-4, msg=name)


def test_what_is_done_is_left_out_and_changes_nothing(engine: Engine) -> None:
    whole = recorded(engine, batch_size=2)
    rest = recorded(engine, batch_size=2, done=frozenset({0, 2, 3}))
    assert [rollouts.sequence for rollouts in rest] == [1]
    assert torch.equal(rest[0].columns["beta"], whole[1].columns["beta"])


def test_limits_are_those_of_the_engine() -> None:
    generator = torch.Generator().manual_seed(0)
    target = TableModel.random(3, generator, context=9)
    draft = TableModel.random(3, generator, context=6)
    (rollouts,) = recorded(registry().engine("eager").from_models(target, draft), [[1, 2]])
    assert len(rollouts.output) == 7
    assert rollouts.limit.tolist() == [4, 3, 2, 1, 0, 0, 0]
    assert rollouts.drafted.tolist() == [4, 3, 2, 1, 0, 0, 0]


def test_a_sequence_and_a_rollout_end_with_their_end_token() -> None:
    generator = torch.Generator().manual_seed(1)
    models = [TableModel.random(3, generator, scale=0.5, end_of_sequence=2) for _ in range(2)]
    found = recorded(registry().engine("eager").from_models(*models), [[0, 1]] * 20, max_new_tokens=6)
    assert len({len(rollouts.output) for rollouts in found}) > 2
    for rollouts in found:
        ended = rollouts.output.tolist()
        assert 2 not in ended[:-1]
        assert len(ended) == 6 or ended[-1] == 2
        for start, drafted in enumerate(rollouts.drafted.tolist()):
            tokens = rollouts.columns["token"][start, :drafted].tolist()
            assert 2 not in tokens[:-1]
            assert drafted == min(4, rollouts.limit[start]) or tokens[-1] == 2


def test_one_token_leaves_nothing_to_draft(engine: Engine) -> None:
    for rollouts in recorded(engine, max_new_tokens=1):
        assert (len(rollouts.output), rollouts.limit.tolist(), rollouts.drafted.tolist()) == (1, [0], [0])


def test_a_draft_gone_bad_drafts_nothing() -> None:
    target, draft = random_model(), random_model()
    with torch.no_grad():
        draft.get_output_embeddings().weight.fill_(torch.nan)
    for rollouts in recorded(registry().engine("eager").from_models(target, draft)):
        assert len(rollouts.output) == 7
        assert not rollouts.drafted.any()
        assert not rollouts.limit.any()


def test_a_target_gone_bad_is_an_error() -> None:
    target, draft = random_model(), random_model()
    with torch.no_grad():
        target.get_output_embeddings().weight.fill_(torch.nan)
    with pytest.raises(GenerationError, match="NaN or infinite"):
        recorded(registry().engine("eager").from_models(target, draft))


def test_recording_needs_a_draft_model(target: Any) -> None:
    engine = registry().engine("eager").from_models(target)
    for ask in (lambda: recorded(engine), engine.identity, lambda: engine.timings(4)):
        with pytest.raises(InputError, match=r"engine\.draft: is unset"):
            ask()


def test_timings(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stopkit_engines.hf.timing.REPEATS", 2)
    found = engine.timings(5)
    assert len(found.verify) == 6
    assert min(found.draft_step, *found.verify) > 0
    with pytest.raises(InputError, match="max_draft: 95 tokens and a prompt exceed the target's context of 96"):
        engine.timings(95)


def test_a_model_is_known_by_its_weights(engine: Engine, target: Any, draft: Any) -> None:
    cls = type(engine)
    ours = engine.identity()
    assert ours.target["hash"] != ours.draft["hash"]
    assert cls.from_models(noisy_copy(target, noise=0.0), draft).identity() == ours
    assert cls.from_models(noisy_copy(target, noise=1e-6), draft).identity().target["hash"] != ours.target["hash"]
    narrow = cls.from_models(noisy_copy(target, noise=0.0).to(torch.bfloat16), draft).identity().target
    assert (narrow["dtype"], narrow["hash"] == ours.target["hash"]) == ("bfloat16", False)
