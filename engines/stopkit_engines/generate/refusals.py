"""What stopkit would do otherwise than `generate`, and so does not do: each is named in one line."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from torch import Tensor
from transformers.generation import LogitsProcessor, SynthIDTextWatermarkLogitsProcessor
from transformers.generation.logits_process import UnbatchedClassifierFreeGuidanceLogitsProcessor

from stopkit.errors import InputError, one_line
from stopkit_engines.hf.forward import CACHE_ARGUMENTS

MODES = {
    "beam_search": "num_beams",
    "beam_sample": "num_beams",
    "group_beam_search": "num_beam_groups",
    "constrained_beam_search": "force_words_ids",
    "contrastive_search": "penalty_alpha",
    "dola_generation": "dola_layers",
}
"""Ways to generate that take no token after another from one distribution, and the setting that asks for each."""
OTHER_DRAFTS = {
    "prompt_lookup_num_tokens": 'give draft_model={"kind": "prompt_lookup"}',
    "assistant_early_exit": 'give draft_model={"kind": "early_exit", "layers": …}',
    "use_mtp": "give a draft_model",
}
"""Settings that ask transformers itself to draft, and what to do instead."""
KEEP_STATE: Mapping[type[Any], str] = {
    UnbatchedClassifierFreeGuidanceLogitsProcessor: "guidance_scale",
    SynthIDTextWatermarkLogitsProcessor: "watermarking_config",
}
"""Processors that count on being asked once for every token, in order, and the setting that asks for each."""
UNDERSTOOD = frozenset({*CACHE_ARGUMENTS, "attention_mask", "position_ids", "cache_position", "use_cache"})
HARMLESS = frozenset({"logits_to_keep", "return_dict", "synced_gpus"})


def require_served(
    model: Any,
    config: Any,
    processors: Collection[LogitsProcessor],
    mask: Tensor,
    inputs: Mapping[str, Any],
    caller: Mapping[str, Any],
) -> None:
    """Raise InputError for the first thing of a call that cannot be served.

    `mask` [B, L] bool is where the prompts are, `inputs` what the model is to be given besides token ids, and `caller`
    what `generate` was given itself.
    """
    if fault := next(_faults(model, config, processors, mask, inputs, caller), None):
        raise InputError(f"generate.{fault}, or call generate without custom_generate.")


def _faults(
    model: Any,
    config: Any,
    processors: Collection[LogitsProcessor],
    mask: Tensor,
    inputs: Mapping[str, Any],
    caller: Mapping[str, Any],
) -> Iterator[str]:
    if model.config.is_encoder_decoder:
        yield "model: is an encoder-decoder, and stopkit runs decoders alone; use a causal language model"
    for name, remedy in OTHER_DRAFTS.items():
        if getattr(config, name, None):
            yield f"{name}: lets transformers draft, and stopkit drafts here; {remedy} instead"
    if caller.get("assistant_model") is not None:
        yield "assistant_model: does not reach stopkit; give it as draft_model"
    mode = one_line(getattr(config.get_generation_mode(), "value", ""))
    if mode in MODES:
        asked = mode.replace("_", " ")
        yield f"{MODES[mode]}: asks for {asked}, and stopkit serves sampling and greedy decoding; unset it"
    if inputs.get("stop_strings") is not None:
        yield (
            "stop_strings: their tokenizer does not reach stopkit; give "
            "stopping_criteria=[StopStringCriteria(tokenizer, stop_strings)] instead"
        )
    for processor in processors:
        if setting := KEEP_STATE.get(type(processor)):
            yield f"{setting}: {type(processor).__name__} keeps a state, and cannot be asked about drafts; unset it"
    if (kind := getattr(config, "cache_implementation", None)) not in (None, "dynamic"):
        yield f"cache_implementation: stopkit has a cache of its own, which is not {kind}; unset it"
    if any((caller.get("kwargs") or {}).get(name) is not None for name in CACHE_ARGUMENTS):
        yield "cache: stopkit has a cache of its own, and would see all tokens anew; leave yours out"
    if caller.get("synced_gpus") or inputs.get("synced_gpus"):
        yield "synced_gpus: stopkit does not wait for other processes; unset it"
    if not _counts_on(inputs.get("position_ids"), mask):
        yield "position_ids: stopkit counts the tokens that attention_mask shows; leave yours out"
    for name in sorted(inputs.keys() - UNDERSTOOD - HARMLESS):
        if inputs[name] is not None and inputs[name] is not False:
            yield f"{name}: stopkit gives the target token ids and nothing else; leave it out"


def _counts_on(positions: Tensor | None, mask: Tensor) -> bool:
    """Whether the tokens that `mask` shows have positions 0, 1, 2, …"""
    if positions is None:
        return True
    if positions.shape[-1] != mask.shape[1]:
        return False
    mask = mask.to(positions.device)
    return bool(((positions == mask.cumsum(-1) - 1) | ~mask).all())
