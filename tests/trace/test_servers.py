"""What servers can be told: the same rule as the policy that stands for them, and lengths that fit their batches."""

import json
import shlex
from copy import deepcopy
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import pytest
import torch
from transformers import GenerationConfig
from transformers.generation.candidate_generator import AssistedCandidateGenerator

import stopkit
from stopkit.costs import FixedCosts
from stopkit.trace.batches import LARGEST, bands, of_batch
from stopkit.trace.costs import cost_grid
from stopkit.trace.replay import replay
from stopkit.trace.servers import SERVERS, server_space
from stopkit.trace.trace import Trace
from stopkit.trace.tuning import kept
from tests.trace.conftest import PROMPTS, Record
from tests.trace.traces import MAX_DRAFT, by_chance, trace

COSTS = cost_grid([0.02, 0.2], [0.05])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    return trace(tmp_path_factory.mktemp("servers"), by_chance(0, [24, 31, 17, 40, 9, 28]))


def counts(recorded: Trace, policy: Any) -> list[dict[str, Any]]:
    (done,) = replay(recorded, stopkit.load_policy(policy), COSTS[:1])
    return [stats.as_dict() for stats in done.sequences]


@pytest.mark.parametrize(
    ("server", "settings", "policy"),
    [
        ("vllm", {"num_speculative_tokens": 3}, "static:length=3"),
        ("sglang", {"speculative_num_steps": 2}, "static:length=2"),
        (
            "llama.cpp",
            {"spec_draft_n_max": 3, "spec_draft_p_min": 0.5},
            "max_probability:threshold=0.5,min_draft=0,max_draft=3",
        ),
        (
            "transformers",
            {"num_assistant_tokens": 3, "assistant_confidence_threshold": 0.3},
            "drawn_probability:threshold=0.3,max_draft=3",
        ),
        (
            "transformers",
            {
                "num_assistant_tokens": 2,
                "assistant_confidence_threshold": 0,
                "num_assistant_tokens_schedule": "heuristic_transient",
            },
            "heuristic:start=2",
        ),
        (
            "transformers",
            {
                "num_assistant_tokens": 2,
                "assistant_confidence_threshold": 0,
                "num_assistant_tokens_schedule": "heuristic",
            },
            "heuristic:start=2,carry_over=true",
        ),
    ],
)
def test_a_server_drafts_as_the_policy_of_its_rule(
    recorded: Trace, server: str, settings: dict[str, Any], policy: str
) -> None:
    standing_in = server_space(server, recorded).policy_at(settings)
    assert counts(recorded, standing_in) == counts(recorded, policy)
    assert counts(recorded, standing_in) != counts(recorded, "static:length=1")


def written(server: str, **settings: Any) -> str:
    known = SERVERS[server]
    return known.form(known.options(known.settings(**settings).model_dump(), "my drafts/d"))


def test_command_lines_can_be_copied() -> None:
    option, value = shlex.split(written("vllm", num_speculative_tokens=4))
    assert option == "--speculative-config"
    assert json.loads(value) == {
        "method": "draft_model",
        "model": "my drafts/d",
        "draft_sample_method": "probabilistic",
        "num_speculative_tokens": 4,
    }
    assert written("llama.cpp", spec_draft_n_max=6, spec_draft_p_min=0.12345) == (
        "--spec-type draft-simple --spec-draft-model 'my drafts/d' --spec-draft-sampling probabilistic "
        "--spec-draft-n-max 6 --spec-draft-p-min 0.123 --spec-draft-n-min 0"
    )
    assert written("sglang", speculative_num_steps=4) == (
        "--speculative-algorithm STANDALONE --speculative-draft-model-path 'my drafts/d' --speculative-num-steps 4 "
        "--speculative-eagle-topk 1 --speculative-num-draft-tokens 5"
    )


def test_transformers_knows_its_settings(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text(written("transformers", num_assistant_tokens=7))
    read = GenerationConfig.from_pretrained(tmp_path)
    assert read.num_assistant_tokens == 7
    assert read.assistant_confidence_threshold == 0.4
    assert read.num_assistant_tokens_schedule == "constant"
    plain = GenerationConfig()._get_default_generation_params()
    assert SERVERS["transformers"].settings().model_dump().items() <= plain.items(), "our defaults are those"


@pytest.mark.parametrize("server", SERVERS)
def test_lengths_are_searched_up_to_what_was_recorded(recorded: Trace, server: str) -> None:
    space = server_space(server, recorded)
    assert {choice.high for choice in space.choices if choice.whole} == {MAX_DRAFT}
    assert [choice.name for choice in space.choices] == list(SERVERS[server].settings.model_fields)
    start = space.policy_at({choice.name: choice.default for choice in space.choices})
    assert start.kind == space.policy.kind


def test_bands_hold_the_fastest_length_for_every_batch(recorded: Trace) -> None:
    found = bands(recorded, COSTS, MAX_DRAFT)
    assert [first for first, _, _ in found] == [1, *(last + 1 for _, last, _ in found[:-1])]
    assert found[-1][1] == LARGEST
    lengths = [length for _, _, length in found]
    assert lengths == sorted(set(lengths), reverse=True), "the more sequences, the shorter"
    assert lengths[-1] == 0
    statics = {length: stopkit.load_policy(f"static:length={length}") for length in range(MAX_DRAFT + 1)}
    alone = {length: replay(recorded, static, COSTS[:1])[0].stats for length, static in statics.items()}

    def seconds_a_token(size: int, length: int, cost: FixedCosts) -> float:
        """By the law in words: every token of a forward but the first costs as much as any other."""
        stats = alone[length]
        share = 1 + (size - 1) * 0.05
        drafting = stats.draft_forwards * cost.draft_step * share
        verifying = stats.rounds * share + stats.drafted * size * 0.05
        return (drafting + verifying) / stats.tokens

    for first, last, length in found:
        for size in (first, last):
            speeds = {each: geometric_mean([1 / seconds_a_token(size, each, cost) for cost in COSTS]) for each in alone}
            assert speeds[length] == pytest.approx(max(speeds.values()))


def test_a_free_token_is_free_in_any_batch(recorded: Trace) -> None:
    costs = cost_grid([0.02], [0.0])
    assert bands(recorded, costs, 2) == [(1, LARGEST, 2)]
    assert of_batch(costs[0], 9) == costs[0]
    dear = FixedCosts(draft_step=2, verify=10, verify_token=1, verify_block=3, first_step=1)
    assert of_batch(dear, 1) == dear
    assert of_batch(dear, 11) == FixedCosts(draft_step=4, verify=20, verify_token=11, verify_block=3, first_step=2)


def test_what_is_kept(recorded: Trace) -> None:
    done = {name: replay(recorded, stopkit.load_policy(name), COSTS) for name in ("static:length=2", "static:length=1")}
    longer, shorter = done["static:length=2"], done["static:length=1"]
    nothing = replay(recorded, stopkit.load_policy("autoregressive"), COSTS)
    assert kept(longer, longer) == (1.0, (1.0, 1.0))
    assert kept(nothing, longer)[0] == pytest.approx(0, abs=1e-12)
    assert kept(longer, nothing) == (None, None)
    share, sure = kept(shorter, longer)
    gains = [geometric_mean([each.speedup for each in one]) - 1 for one in (shorter, longer)]
    assert share == pytest.approx(gains[0] / gains[1])
    assert sure is not None
    assert sure[0] < share < sure[1]
    alone = [replay(recorded.select([3]), stopkit.load_policy(f"static:length={k}"), COSTS) for k in (1, 2)]
    assert kept(*alone)[1] is None


def test_transformers_does_as_replayed(
    recording: Record, engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens, prompts = 14, PROMPTS[:3]
    recording(temperature=0, max_new_tokens=tokens, max_draft=tokens, prompts=prompts).run(tmp_path / "t.parquet")
    recorded = Trace.open(tmp_path / "t.parquet")
    judge = AssistedCandidateGenerator.update_candidate_strategy
    rounds: list[tuple[int, int]] = []  # tokens drafted, and accepted

    def counting(self: Any, ids: Any, scores: Any, matches: int) -> None:
        rounds.append((scores.shape[1] - 1, matches))
        judge(self, ids, scores, matches)

    monkeypatch.setattr(AssistedCandidateGenerator, "update_candidate_strategy", counting)
    monkeypatch.setattr("transformers.generation.candidate_generator.is_sklearn_available", lambda: False)
    target, draft = engine.models.target, engine.models.draft
    monkeypatch.setattr(draft, "generation_config", deepcopy(draft.generation_config))
    for length, threshold, schedule in ((3, 0.0, "constant"), (6, 0.12, "constant"), (2, 0.05, "heuristic_transient")):
        names = SERVERS["transformers"].settings.model_fields
        settings = dict(zip(names, (length, threshold, schedule), strict=True))
        (replayed,) = replay(recorded, server_space("transformers", recorded).policy_at(settings), COSTS[:1])
        draft.generation_config.update(**settings)
        for prompt, stats in zip(prompts, replayed.sequences, strict=True):
            rounds.clear()
            target.generate(torch.tensor([prompt]), assistant_model=draft, do_sample=False, max_new_tokens=tokens)
            drafted, accepted = map(sum, zip(*rounds, strict=True))
            assert (len(rounds), drafted, accepted) == (stats.rounds, stats.drafted, stats.accepted), settings
