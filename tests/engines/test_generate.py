"""`generate` with `custom_generate=stopkit.assisted` gives, at temperature 0, what it gives without."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    EosTokenCriteria,
    GenerationConfig,
    MaxLengthCriteria,
    StopStringCriteria,
    T5Config,
    T5ForConditionalGeneration,
    TextIteratorStreamer,
)

import stopkit
from benchmarks.tiny_models import tiny
from stopkit import GenerationError
from stopkit.pair import bundled
from stopkit_engines.generate.costs import costs_of
from tests.engines.conftest import POLICIES
from tests.engines.models import CONFIGS, noisy_copy, random_model

COUNT = 14
IDS = torch.tensor([[0, 0, 0, 5, 9, 21, 3], [31, 7, 7, 2, 18, 9, 25], [0, 0, 0, 0, 0, 11, 4]])
MASK = (IDS != 0).long()
OTHERS = ("qwen3", "gemma3_text", "gpt_oss")
LOOKUP = {"kind": "prompt_lookup"}
ONE = {"input_ids": IDS[1:2], "attention_mask": None}


@cache
def pair(architecture: str = "llama") -> tuple[Any, Any]:
    target = random_model(architecture) if architecture in CONFIGS else tiny(architecture)
    return target, noisy_copy(target)


class Streamer:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.given: list[Any] = []
        self.ended = 0

    def put(self, value: Tensor) -> None:
        self.given.append(value.tolist())

    def end(self) -> None:
        self.ended += 1


def asked(**options: Any) -> dict[str, Any]:
    return {"input_ids": IDS, "attention_mask": MASK, "do_sample": False, "max_new_tokens": COUNT} | options


def both(options: dict[str, Any], policy: str = "static:length=3", architecture: str = "llama") -> tuple[Any, Any]:
    """What `generate` gives without and with stopkit."""
    target, draft = pair(architecture)
    outputs, streamers = [], []
    for ours in ({}, {"custom_generate": stopkit.assisted, "draft_model": draft, "policy": policy}):
        streamers.append(Streamer())
        outputs.append(target.generate(**options, **ours, streamer=streamers[-1]))
    assert streamers[0].given == streamers[1].given
    assert streamers[0].ended == streamers[1].ended == 1
    return outputs[0], outputs[1]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("architecture", [*CONFIGS, *OTHERS])
def test_it_is_what_generate_gives(architecture: str, policy: str) -> None:
    plain, ours = both(asked(), policy, architecture)
    assert ours.dtype == plain.dtype
    assert torch.equal(ours, plain)
    assert not ours.is_inference()


SETTINGS: dict[str, dict[str, Any]] = {
    "one row": ONE,
    "no token ids": {"input_ids": None, "attention_mask": None, "bos_token_id": 1},
    "32 bits": {"input_ids": IDS.int()},
    "no mask": {"attention_mask": None},
    "a mask that is inferred": {"attention_mask": None, "pad_token_id": 0},
    "masked in the middle": {"attention_mask": MASK * torch.tensor([1, 1, 1, 1, 0, 1, 1])},
    "several ends": {"eos_token_id": [7, 8, 9, 10, 11], "pad_token_id": 0},
    "no padding token": {"eos_token_id": [7, 8, 9, 10, 11]},
    "max_length": {"max_new_tokens": None, "max_length": 12},
    "the default length": {"max_new_tokens": None},
    "min_new_tokens": {"min_new_tokens": 9, "eos_token_id": list(range(1, 40, 3)), "pad_token_id": 0},
    "min_length": {"min_length": 14, "eos_token_id": list(range(1, 40, 3)), "pad_token_id": 0},
    "max_time": {"max_time": 1000.0},
    "no time": {"max_time": 0.0},
    "repetition_penalty": {"repetition_penalty": 1.7},
    "encoder_repetition_penalty": {"encoder_repetition_penalty": 1.7},
    "encoder_no_repeat_ngram_size": {"encoder_no_repeat_ngram_size": 2},
    "no_repeat_ngram_size": {"no_repeat_ngram_size": 2},
    "bad_words_ids": {"bad_words_ids": [[3], [4, 5]]},
    "forced": {"forced_bos_token_id": 3, "forced_eos_token_id": 5},
    "exponential_decay": {"exponential_decay_length_penalty": (3, 1.5), "eos_token_id": 11, "pad_token_id": 0},
    "allowed by row": {"prefix_allowed_tokens_fn": lambda row, ids: list(range(10 * row, 10 * row + 10))},
    "watermark": {"watermarking_config": {"bias": 2.5, "seeding_scheme": "selfhash"}},
    "renormalised": {"renormalize_logits": True},
    "no cache": {"use_cache": False},
    "several of each": {"num_return_sequences": 2, "do_sample": True, "top_k": 1},
    "processors": {"logits_processor": [lambda ids, scores: scores.flip(1) * (1 + ids.shape[1] % 3)]},
    "a criterion for all": {"stopping_criteria": [lambda ids, scores: ids[0, -1] % 5 == 0]},
    "a criterion by row": {
        "stopping_criteria": [lambda ids, scores: ids[:, -1] % 5 == 0],
        "eos_token_id": 39,
        "pad_token_id": 0,
    },
    "a criterion by row, and no end": {
        "stopping_criteria": [lambda ids, scores: (ids[:, 7:] % 5 == 0).any(1)],
        "pad_token_id": 0,
    },
    "a length of one's own": {"stopping_criteria": [MaxLengthCriteria(11)]},
    "an end of one's own": {"stopping_criteria": [EosTokenCriteria(7)], "eos_token_id": 5, "pad_token_id": 0},
    "a config": {
        "max_new_tokens": None,
        "do_sample": None,
        "generation_config": GenerationConfig(
            max_new_tokens=9, do_sample=False, repetition_penalty=1.4, eos_token_id=11, pad_token_id=3
        ),
    },
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_carry_over(name: str) -> None:
    plain, ours = both(asked(**SETTINGS[name]))
    assert torch.equal(ours, plain)


@pytest.mark.parametrize("penalty", [1.0, 1.6])
def test_scores_and_logits(penalty: float) -> None:
    told = {"return_dict_in_generate": True, "output_scores": True, "output_logits": True, "eos_token_id": [7, 8, 9]}
    plain, ours = both(asked(**told, pad_token_id=0, repetition_penalty=penalty))
    assert type(ours) is type(plain)
    assert torch.equal(ours.sequences, plain.sequences)
    for name in ("scores", "logits"):
        assert len(ours[name]) == len(plain[name]) == ours.sequences.shape[1] - IDS.shape[1]
        for step, (found, wanted) in enumerate(zip(ours[name], plain[name], strict=True)):
            assert found.dtype == wanted.dtype == torch.float32
            going = (ours.sequences[:, IDS.shape[1] : IDS.shape[1] + step + 1] != 0).all(1)
            torch.testing.assert_close(found[going], wanted[going], atol=1e-4, rtol=1e-4)
            assert not found[~going].any()


def test_only_what_was_asked_for_is_told() -> None:
    plain, ours = both(asked(return_dict_in_generate=True, output_scores=True))
    assert set(ours) == set(plain) - {"cache", "past_key_values"} == {"sequences", "scores"}


def test_scores_of_sampling_are_those_that_were_drawn_from() -> None:
    target, draft = pair()
    options = {"do_sample": True, "top_k": 3, "temperature": 0.7, "return_dict_in_generate": True}
    ours = target.generate(
        **asked(**options, output_scores=True), custom_generate=stopkit.assisted, draft_model=draft, policy="static"
    )
    for step, scores in enumerate(ours.scores):
        assert ((scores > -torch.inf).sum(1) == 3).all()
        assert (scores.gather(1, ours.sequences[:, IDS.shape[1] + step, None]) > -torch.inf).all()


def test_a_criterion_sees_the_scores() -> None:
    seen: list[list[int]] = []

    def surprised(ids: Tensor, scores: Any) -> Tensor:
        seen.append([len(scores), ids.shape[1]])
        return scores[-1].softmax(-1).amax(-1) > 0.5

    plain, ours = both(
        asked(return_dict_in_generate=True, output_scores=True, stopping_criteria=[surprised], eos_token_id=39)
    )
    assert torch.equal(ours.sequences, plain.sequences)
    half = len(seen) // 2
    assert seen[:half] == seen[half:]


def test_statistics() -> None:
    _, ours = both(asked(return_dict_in_generate=True, eos_token_id=[7, 8, 9, 10], pad_token_id=0))
    assert ours.stats.tokens == (ours.sequences[:, IDS.shape[1] :] != 0).sum()
    assert 0 < ours.stats.accepted < ours.stats.drafted
    assert ours.stats.target_forwards < COUNT


def test_nothing_is_drafted_after_an_end() -> None:
    target, _ = pair()
    said = target.generate(**asked(**ONE))[0, IDS.shape[1] :].tolist()
    end = next(at for at in range(2, COUNT) if said[at] not in said[:at])
    options = asked(**ONE, eos_token_id=said[end], pad_token_id=0, return_dict_in_generate=True)
    ours = target.generate(
        **options, custom_generate=stopkit.assisted, draft_model=target, policy=f"static:length={COUNT}"
    )
    assert ours.sequences[0, IDS.shape[1] :].tolist() == said[: end + 1]
    assert ours.stats.drafted == end + 1


def test_padding_on_the_right_is_padding() -> None:
    target, draft = pair()
    rolled = torch.stack([row.roll(int(mask.sum())) for row, mask in zip(IDS, MASK, strict=True)])
    right = (rolled != 0).long()
    assert right[0].tolist() == [1, 1, 1, 1, 0, 0, 0]
    ours = target.generate(
        **asked(input_ids=rolled, attention_mask=right), custom_generate=stopkit.assisted, draft_model=draft
    )
    assert torch.equal(ours[:, :7], rolled)
    assert torch.equal(ours[:, 7:], target.generate(**asked())[:, 7:])


@pytest.mark.parametrize("draft", [LOOKUP, {"kind": "prompt_lookup", "longest": 2}, "smaller", "larger"], ids=str)
def test_drafts_of_other_kinds(draft: Any) -> None:
    target, _ = pair()
    if isinstance(draft, str):
        draft = random_model("llama")
        draft.resize_token_embeddings(30 if draft == "smaller" else 50)
    plain = target.generate(**asked())
    ours = target.generate(**asked(), custom_generate=stopkit.assisted, draft_model=draft, policy="static:length=4")
    assert torch.equal(ours, plain)


def test_a_model_that_runs_row_by_row() -> None:
    target = tiny("mamba")
    draft = noisy_copy(target)
    plain = target.generate(**asked(input_ids=IDS[1:2].repeat(2, 1), attention_mask=None, eos_token_id=[3, 4]))
    options = asked(input_ids=IDS[1:2].repeat(2, 1), attention_mask=None, eos_token_id=[3, 4])
    ours = target.generate(**options, custom_generate=stopkit.assisted, draft_model=draft, policy="static:length=2")
    assert torch.equal(ours, plain)
    with pytest.raises(stopkit.InputError, match=r"generate\.max_time: this model runs a row at a time"):
        target.generate(**options, max_time=9.0, custom_generate=stopkit.assisted, draft_model=draft)


def test_half_precision_processors_see_what_generate_shows_them() -> None:
    seen: list[torch.dtype] = []

    def look(ids: Tensor, scores: Tensor) -> Tensor:
        seen.append(scores.dtype)
        return scores

    target = random_model().to(torch.bfloat16)
    target.generate(
        **asked(logits_processor=[look], max_new_tokens=3), custom_generate=stopkit.assisted, draft_model=target
    )
    assert set(seen) == {torch.float32}


def test_text_streams_and_stops_at_a_string() -> None:
    target = AutoModelForCausalLM.from_pretrained(bundled.model_path("target")).eval()
    tokenizer = AutoTokenizer.from_pretrained(bundled.model_path("target"))
    inputs = tokenizer("def add(a, b):\n", return_tensors="pt")
    options = {"do_sample": False, "max_new_tokens": 24}
    whole = target.generate(**inputs, **options)
    stop = tokenizer.decode(whole[0, -12:-9])
    plain = target.generate(**inputs, **options, stop_strings=stop, tokenizer=tokenizer)
    assert plain.shape[1] < whole.shape[1]
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, timeout=1.0)
    ours = target.generate(
        **inputs,
        **options,
        stopping_criteria=[StopStringCriteria(tokenizer, stop)],
        streamer=streamer,
        custom_generate=stopkit.assisted,
        draft_model=LOOKUP,
        policy="static",
    )
    assert torch.equal(ours, plain)
    assert "".join(streamer) == tokenizer.decode(plain[0, inputs["input_ids"].shape[1] :])


def test_a_seed_of_torch_is_one_text() -> None:
    target, draft = pair()
    ours = {"custom_generate": stopkit.assisted, "draft_model": draft, "policy": "static:length=3"}
    texts = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        texts.append(target.generate(**asked(do_sample=True), **ours))
    assert torch.equal(texts[0], texts[1])
    assert not torch.equal(texts[1], texts[2])
    assert not torch.equal(target.generate(**asked(do_sample=True), **ours), texts[2])


def test_with_the_invariant_coupling_a_seed_is_one_text_whatever_drafts() -> None:
    target, draft = pair()
    texts = []
    for policy in ("static:length=1", "static:length=5", "adaedl"):
        torch.manual_seed(3)
        ours = {"custom_generate": stopkit.assisted, "draft_model": draft, "policy": policy, "coupling": "invariant"}
        texts.append(target.generate(**asked(do_sample=True), **ours).tolist())
    assert texts[0] == texts[1] == texts[2]


def test_costs_are_learned_from_call_to_call() -> None:
    target, draft = pair()
    before = costs_of(target, draft)
    assert costs_of(target, draft) is before
    assert costs_of(target, target) is not before
    assert costs_of(draft, draft) is not before
    assert costs_of(target, LOOKUP) is costs_of(target, dict(LOOKUP))


NO_CACHE = "generate.cache: stopkit has a cache of its own"
REFUSED: dict[str, tuple[Callable[[Any], dict[str, Any]], str]] = {
    "beams": (lambda model: {"num_beams": 2}, "generate.num_beams: asks for beam search"),
    "sampled beams": (lambda model: {"num_beams": 2, "do_sample": True}, "generate.num_beams: asks for beam sample"),
    "contrastive": (lambda model: {"penalty_alpha": 0.6, "top_k": 4}, "generate.penalty_alpha: asks for contrastive"),
    "dola": (lambda model: {"dola_layers": "low"}, "generate.dola_layers: asks for dola"),
    "prompt lookup": (lambda model: ONE | {"prompt_lookup_num_tokens": 3}, "generate.prompt_lookup_num_tokens: .*kind"),
    "assistant": (lambda model: ONE | {"assistant_model": model}, "generate.assistant_model: .*draft_model"),
    "guidance": (lambda model: {"guidance_scale": 1.5}, "generate.guidance_scale: .*keeps a state"),
    "static cache": (lambda model: {"cache_implementation": "static"}, "generate.cache_implementation: "),
    "a cache": (lambda model: {"past_key_values": DynamicCache(config=model.config)}, NO_CACHE),
    "embeddings": (
        lambda model: {"input_ids": None, "inputs_embeds": model.get_input_embeddings()(IDS)},
        "generate.inputs_embeds: stopkit gives the target token ids",
    ),
    "positions": (lambda model: {"position_ids": torch.arange(7) + 2}, "generate.position_ids: "),
    "attentions": (lambda model: {"output_attentions": True}, "generate.output_attentions: "),
    "hidden states": (lambda model: {"output_hidden_states": True}, "generate.output_hidden_states: "),
    "stop strings": (lambda model: {"stop_strings": ["a"]}, "generate.stop_strings: .*StopStringCriteria"),
    "processes": (lambda model: {"synced_gpus": True}, "generate.synced_gpus: "),
    "context": (lambda model: {"max_new_tokens": 90}, "generate.max_new_tokens: .*context of 96.*at most 89"),
    "nothing": (lambda model: {"attention_mask": MASK * torch.tensor([[1], [0], [1]])}, r"prompts\[1\]: is empty"),
    "a name": (lambda model: {"draft_model": "gpt2"}, "generate.draft_model: 'gpt2' is a name"),
    "no draft": (lambda model: {"draft_model": None}, "generate.draft_model: give a model, or a block"),
    "a block": (lambda model: {"draft_model": {"kind": "prompt_lookpu"}}, "draft.kind: no draft is called .*lookup"),
    "a policy": (lambda model: {"policy": "adaed"}, "unknown kind 'adaed'. Did you mean 'adaedl'"),
    "a coupling": (lambda model: {"coupling": "tight"}, "generate.coupling: "),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_served_is_refused_by_name(name: str) -> None:
    target, draft = pair()
    make, message = REFUSED[name]
    with pytest.raises(stopkit.InputError, match=message) as refused:
        target.generate(**asked(**{"draft_model": draft} | make(target)), custom_generate=stopkit.assisted)
    assert "\n" not in str(refused.value)


def test_a_cache_that_has_seen_tokens_is_refused() -> None:
    target, draft = pair()
    cache = DynamicCache(config=target.config)
    target(IDS[1:2, :4], past_key_values=cache)
    with pytest.raises(stopkit.InputError, match=NO_CACHE):
        target.generate(**asked(**ONE), past_key_values=cache, custom_generate=stopkit.assisted, draft_model=draft)


def test_an_encoder_decoder_is_refused() -> None:
    sizes = {"vocab_size": 40, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    model = T5ForConditionalGeneration(T5Config(**sizes, decoder_start_token_id=0)).eval()
    with pytest.raises(stopkit.InputError, match=r"generate\.model: is an encoder-decoder"):
        model.generate(**asked(), custom_generate=stopkit.assisted, draft_model=model)


def test_a_target_that_fails_says_so() -> None:
    target, draft = random_model(), pair()[1]
    with torch.no_grad():
        target.lm_head.weight.fill_(float("nan"))
    options = {"custom_generate": stopkit.assisted, "draft_model": draft}
    with pytest.raises((GenerationError, stopkit.InputError), match=r"NaN|cannot be used|off by"):
        target.generate(**asked(), **options)
