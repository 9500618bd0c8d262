"""What a model's generation config asks of `generate`: done here by transformers' own means, or said not to be done."""

from collections.abc import Sequence
from typing import Any

import torch

from stopkit.errors import InputError, one_line
from stopkit.generation import GenerationOptions, Processor

PENALTIES = (
    "sequence_bias",
    "encoder_repetition_penalty",
    "repetition_penalty",
    "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size",
    "bad_words_ids",
    "min_length",
    "min_new_tokens",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "remove_invalid_values",
    "exponential_decay_length_penalty",
    "suppress_tokens",
    "begin_suppress_tokens",
)
"""Settings that change what the model says, whatever the sampling."""
BESIDES = {
    "guidance_scale": None,
    "num_beams": 1,
    "penalty_alpha": None,
    "watermarking_config": None,
    "dola_layers": None,
    "stop_strings": None,
    "token_healing": False,
    "max_time": None,
}
"""Settings of another way to generate or to end, and their value that means none: nothing here does these."""
SAMPLED = ("temperature", "top_k", "top_p", "min_p")
CUTS = ("typical_p", "epsilon_cutoff", "eta_cutoff", "top_h")
"""Settings that cut the sampled distribution in ways that stopkit has no name for."""


def penalties(model: Any, prompt: Sequence[int], room: int) -> list[Processor]:
    """The processors that `generate` would apply to a continuation of `prompt` by at most `room` tokens.

    Raises InputError if transformers cannot make them of the model's generation config.
    """
    config = getattr(model, "generation_config", None)
    if config is None or not any(_is_set(config, name) for name in PENALTIES):
        return []
    fresh = getattr(config, "min_new_tokens", None)
    least = (getattr(config, "min_length", None) or 0) if fresh is None else len(prompt) + fresh
    lengths = {"max_length": len(prompt) + room, "max_new_tokens": None, "min_length": least}
    ids = torch.tensor([prompt], device=model.device)
    try:
        whole, _ = model._prepare_generation_config(None, do_sample=False, **BESIDES, **lengths)
        model._prepare_special_tokens(whole, device=model.device)
        return list(
            model._get_logits_processor(
                whole, input_ids_seq_length=len(prompt), encoder_input_ids=ids, device=model.device
            )
        )
    except Exception as error:
        raise InputError(f"engine.target: its generation config cannot be applied: {one_line(error)}.") from error


def sampled(model: Any, options: GenerationOptions) -> GenerationOptions:
    """`options`, with the temperature and truncation of the model's generation config if they ask for them.

    A model that does not sample is greedy. Raises InputError if they say how to sample themselves.
    """
    if options.sampling == "given":
        return options
    if given := [name for name in SAMPLED if name in options.model_fields_set]:
        raise InputError(f"generate.{given[0]}: sampling = 'model' takes it from the model; give one of the two.")
    if getattr(model, "generation_config", None) is None:
        raise InputError("generate.sampling: the target has no generation config; set temperature and top_p instead.")
    whole, _ = model._prepare_generation_config(None)
    own = {name: getattr(whole, name, None) for name in SAMPLED} if whole.do_sample else {}
    cut_nothing = (None, 0, 1.0)
    fields = {name: value for name, value in own.items() if value not in cut_nothing}
    temperature = 1.0 if whole.do_sample else 0.0
    return options.model_copy(update={"temperature": temperature} | fields)


def undone(model: Any, options: GenerationOptions) -> tuple[str, ...]:
    """The settings of the model's generation config that are not done: "num_beams = 4"."""
    config = getattr(model, "generation_config", None)
    names = (*BESIDES, *(CUTS if options.sampling == "model" else ()))
    return tuple(f"{name} = {one_line(getattr(config, name))}" for name in names if config and _is_set(config, name))


def _is_set(config: Any, name: str) -> bool:
    neutral = {"repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0, "guidance_scale": 1, "typical_p": 1.0}
    value = getattr(config, name, None)
    return value not in (None, False, 0, BESIDES.get(name), neutral.get(name))
