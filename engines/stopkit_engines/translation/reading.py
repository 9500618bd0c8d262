"""`Reading`: one row of the target, read in the tokens of the draft as it grows."""

from collections.abc import Iterator, Sequence

from stopkit_engines.translation.common import Common
from stopkit_engines.translation.vocabulary import Piece


class Reading:
    """What a row says, in the draft's tokens.

    Tokens that are common are taken one for one. Where there is another the text is written anew, from the last word
    on of which both have a beginning: no tokenizer that splits text into words writes it otherwise then.
    """

    def __init__(self, common: Common) -> None:
        self.tokens: list[int] = []
        """The draft's."""
        self.whole = True
        """Whether the row ends with a whole character; the begin of one is not among the tokens."""
        self._common = common
        self._read: list[int] = []
        self._begun = False  # what comes before a text, or is left out before it, is no token's business
        self._joint = (0, 0)

    def read(self, tokens: list[int]) -> None:
        """Read the row's `tokens`, the target's: those of before and more, or those of another sequence."""
        known = len(self._read)
        if tokens[:known] != self._read:
            known, self._begun, self.tokens, self._joint = 0, False, [], (0, 0)
        common = [self._common.reading[token] for token in tokens[known:]]
        if self._begun and self.whole and -1 not in common:
            words = [at for at, token in enumerate(tokens[known:]) if _is_word(self._common.target.pieces[token])]
            if words:
                self._joint = known + words[-1], len(self.tokens) + words[-1]
            self.tokens += common
        else:
            self._write(tokens)
        self._read = tokens

    def _write(self, tokens: list[int]) -> None:
        ours, theirs = self._joint
        written, self.whole = self._common.written(tokens[ours:], first=ours == 0)
        self.tokens[theirs:] = written
        self._begun = self._begun or bool(self._common.target.text(tokens))
        if self.whole and (joint := self._last_joint(tokens[ours:], written)):
            self._joint = ours + joint[0], theirs + joint[1]

    def _last_joint(self, ours: Sequence[int], theirs: Sequence[int]) -> tuple[int, int] | None:
        """The last places in both that begin the same word, with the same text from there on."""
        target, draft = self._common.target, self._common.draft
        places = {length: at for at, length in _words([draft.pieces[token] for token in theirs])}
        for at, length in _words([target.pieces.get(token, b"") for token in ours]):
            if length in places and target.text(ours[at:]) == draft.text(theirs[places[length] :]):
                return at, places[length]
        return None


def _words(pieces: Sequence[Piece]) -> Iterator[tuple[int, int]]:
    """Where words begin, the last one first, and how many bytes there are from there on."""
    length = 0
    for at in range(len(pieces) - 1, -1, -1):
        length += 0 if isinstance(pieces[at], str) else len(pieces[at])
        if _is_word(pieces[at]):
            yield at, length


def _is_word(piece: Piece) -> bool:
    return isinstance(piece, bytes) and piece.startswith(b" ")
