"""Token ids to text as they come: whole characters only, cut before a stop string."""

from collections.abc import Sequence
from typing import Any

UNFINISHED = "\ufffd"
"""What decoding gives for the first bytes of a character whose last ones are still to come."""


class TextStream:
    """The text of one continuation. `tokenizer` may be None: there is no text then."""

    def __init__(self, tokenizer: Any | None, stop: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stop = stop
        self._hold = max(map(len, stop), default=1) - 1
        self._tokens: list[int] = []
        self._context, self._read = 0, 0  # text holds tokens before _read; decoding starts at _context, for spacing
        self._taken = 0
        self.text = ""
        self.stopped = False

    def push(self, tokens: Sequence[int]) -> int:
        """Add tokens; how many were kept: all of them, or up to the one that completed a stop string."""
        stride = 1 if self._stop else max(1, len(tokens))
        for first in range(0, len(tokens), stride):
            self._tokens.extend(tokens[first : first + stride])
            ahead = self._ahead()
            if not ahead.endswith(UNFINISHED):
                self._settle(ahead)
            if self.stopped:
                return first + 1
        return len(tokens)

    def take(self, last: bool = False) -> str:
        """Text that has become certain since the last call; at the last call, all that is left."""
        if last and not self.stopped:
            self._settle(self._ahead())
        certain = len(self.text) - (0 if last else self._hold)
        start, self._taken = self._taken, max(self._taken, certain)
        return self.text[start : self._taken]

    def _settle(self, ahead: str) -> None:
        if ahead:
            self._context, self._read = self._read, len(self._tokens)
        searched = max(0, len(self.text) - self._hold)
        self.text += ahead
        places = [at for at in (self.text.find(stop, searched) for stop in self._stop) if at >= 0]
        if places:
            self.text, self.stopped = self.text[: min(places)], True

    def _ahead(self) -> str:
        known = self._decode(self._tokens[self._context : self._read])
        return self._decode(self._tokens[self._context :])[len(known) :]

    def _decode(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True)) if self._tokenizer and tokens else ""
