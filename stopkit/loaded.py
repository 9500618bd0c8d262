"""For models that are in memory already: an engine around them, and the way into transformers' own `generate`."""

from typing import Any

from stopkit.config import DEFAULT_ENGINE, DEFAULT_POLICY
from stopkit.engine import Engine
from stopkit.errors import InputError, shown
from stopkit.plugins import registry


def wrap(target: Any, draft: Any = None, tokenizer: Any = None, *, kind: str = "eager", **fields: Any) -> Engine:
    """An engine of `kind` over models that are loaded already. `fields` are those of its config block.

    `draft` is a model or a draft block such as `{"kind": "prompt_lookup"}`. Without a tokenizer, prompts are token ids.
    A draft with another one comes with it, `draft_tokenizer=…`. Raises InputError for models that the engine cannot run
    exactly.
    """
    _require_loaded("wrap.target", target)
    _require_loaded("wrap.draft", draft)
    engine: Engine = registry().engine(kind, "wrap").from_models(target, draft, tokenizer, **fields)
    return engine


def assisted(
    model: Any,
    input_ids: Any,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    draft_model: Any = None,
    policy: Any = DEFAULT_POLICY,
    coupling: str = "maximal",
    tokenizers: tuple[Any, Any] = (None, None),
    stop_strings: Any = None,
    streamer: Any = None,
    **model_kwargs: Any,
) -> Any:
    """For `model.generate(…, custom_generate=stopkit.assisted, draft_model=draft, policy="adaedl")`.

    transformers calls it, with what it has made of the user's call. `draft_model` is a loaded model or a draft block
    such as `{"kind": "prompt_lookup"}`, `policy` a kind, a dict or an object, `coupling` as in GenerationOptions.
    `tokenizers` are the target's and the draft's, where those differ; `generate` hands its own `tokenizer` to nobody.
    The output has the form and the law of plain `generate`: a tensor, or with `return_dict_in_generate` an output that
    has `stats`, too. At temperature 0 it is the same. Raises InputError, in one line, for what cannot be served.
    """
    _require_loaded("generate.draft_model", draft_model)
    if draft_model is None:
        raise InputError('generate.draft_model: give a model, or a block such as {"kind": "prompt_lookup"}.')
    return (
        registry()
        .engine(DEFAULT_ENGINE["kind"])
        .assisted(
            model,
            draft_model,
            tokenizers,
            policy,
            coupling,
            input_ids=input_ids,
            processors=logits_processor,
            criteria=stopping_criteria,
            config=generation_config,
            streamer=streamer,
            inputs=model_kwargs | {"stop_strings": stop_strings},
        )
    )


def _require_loaded(where: str, model: Any) -> None:
    if isinstance(model, str):
        raise InputError(f"{where}: {shown(model)} is a name; give a model that is loaded, or names to load_engine.")
