"""llama.cpp by itself: it decodes, and nothing of stopkit does but the struct of a batch."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from stopkit_engines.llamacpp.model import GgufModel

CONTEXT = 128


def greedy(model: GgufModel, prompt: Sequence[int], count: int) -> list[int]:
    """`count` tokens by llama.cpp's own greedy sampler, one token a batch, from a fresh context."""
    llama = model.llama
    params = llama.llama_context_default_params()
    params.n_ctx = params.n_batch = CONTEXT
    params.n_threads = params.n_threads_batch = 1
    params.type_k = params.type_v = llama.GGML_TYPE_F32
    params.flash_attn_type = 0
    context, sampler = llama.llama_init_from_model(model.handle, params), llama.llama_sampler_init_greedy()
    given, said = list(prompt), list[int]()
    try:
        while len(said) < count:
            tokens = (llama.llama_token * len(given))(*given)
            assert llama.llama_decode(context, llama.llama_batch_get_one(tokens, len(given))) == 0
            given = [llama.llama_sampler_sample(sampler, context, -1)]
            said += given
    finally:
        llama.llama_sampler_free(sampler)
        llama.llama_free(context)
    return said


def counts(target: GgufModel, draft: GgufModel, prompt: Sequence[int], count: int, length: int) -> dict[str, Any]:
    """What greedy speculation with blocks of `length` must draft and accept, by whole sequences decoded anew."""
    text, drafted, accepted, rounds = list(prompt), 0, 0, 0
    end = len(prompt) + count
    whole = [*prompt, *greedy(target, prompt, count)]
    guess = partial(greedy, draft)
    while len(text) < end:
        block = guess(text, min(length, end - len(text) - 1))
        right = next((at for at, token in enumerate(block) if token != whole[len(text) + at]), len(block))
        text = whole[: len(text) + right + 1]
        drafted, accepted, rounds = drafted + len(block), accepted + right, rounds + 1
    return {"drafted": drafted, "accepted": accepted, "rounds": rounds}
