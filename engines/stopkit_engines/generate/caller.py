"""What `generate` was given and does not hand on."""

import inspect
import sys
from collections.abc import Mapping
from typing import Any

from transformers import GenerationMixin


def arguments_of_generate() -> Mapping[str, Any]:
    """The variables of the `generate` that is running; none if somebody else calls.

    A `custom_generate` gets neither `streamer` nor `synced_gpus` nor `assistant_model`, even if it asks for them. To
    leave a streamer alone would let whoever reads from it wait for ever; so they are looked up where they are.
    """
    code = inspect.unwrap(GenerationMixin.generate).__code__
    frame = sys._getframe()
    while (frame := frame.f_back) is not None:  # type: ignore[assignment]
        if frame.f_code is code:
            return frame.f_locals
    return {}
