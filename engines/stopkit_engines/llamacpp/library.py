"""llama.cpp as llama-cpp-python binds it, loaded when it is first needed, and what it says when something fails."""

from collections import deque
from functools import cache
from typing import Any

from stopkit.errors import InputError, one_line

ERROR = 3
"""llama.cpp's level of messages that say why something failed."""

_heard: deque[str] = deque(maxlen=4)
_listeners: list[Any] = []
"""What llama.cpp calls, and so has to live as long as it does."""


@cache
def library() -> Any:
    """The functions of llama.h, as a module. Raises InputError where the package is missing, with how to install it."""
    try:
        from llama_cpp import llama_cpp as llama
    except ImportError as error:
        raise InputError(
            "engine.kind: llamacpp needs the package llama-cpp-python, which cannot be imported "
            f"({one_line(error)}); pip install 'stopkit[llamacpp]'."
        ) from None
    _listeners.append(llama.llama_log_callback(_listen))
    llama.llama_log_set(_listeners[-1], None)
    llama.llama_backend_init()
    return llama


def reason(what: str) -> str:
    """`what` happened, with what llama.cpp said of it."""
    said = "; ".join(dict.fromkeys(_heard))
    _heard.clear()
    return f"{what}: {one_line(said, most=300)}" if said else what


def _listen(level: int, text: bytes, user_data: Any) -> None:
    """Keep errors for whoever raises one of ours; the rest is for developers of llama.cpp."""
    if level == ERROR and (said := text.decode(errors="replace").strip()):
        _heard.append(said)
