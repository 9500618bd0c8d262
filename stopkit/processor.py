"""What this machine's processor is good at."""

from collections.abc import Mapping
from typing import Any

import torch

BFLOAT16 = ("avx512_bf16", "amx_bf16", "amx_tile", "bf16", "sve_bf16")
"""Instructions that multiply matrices in bfloat16, as torch calls them: of AVX-512, AMX and Arm."""


def computes_bfloat16() -> bool:
    """Whether the processor computes in bfloat16 by itself. One that does not is several times slower in it."""
    abilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older torch does not tell
    return any(abilities.get(name) for name in BFLOAT16)
