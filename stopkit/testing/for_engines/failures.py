"""What goes wrong in the middle loses nothing: the error carries the result so far."""

import torch
from hypothesis import strategies as st

from stopkit.engine import Engine
from stopkit.errors import GenerationError
from stopkit.generation import GenerationResult, Piece
from stopkit.testing.checks import Draw
from stopkit.testing.for_engines.drafting import Failing
from stopkit.testing.for_engines.workloads import long_workloads, raised

VERBS = ("plan", "admit", "extend", "learn")


def a_failing_policy_loses_nothing(engine: type[Engine], draw: Draw) -> None:
    """A policy that raises is a GenerationError that names the verb; its `partial` is what was generated so far."""
    work = draw(long_workloads())
    expected = work.run(engine).tokens
    failing = draw(st.builds(Failing, caps=st.just((2,)), verb=st.sampled_from(VERBS), round=st.integers(0, 2)))
    error = raised(GenerationError, lambda: work.run(engine, policy=failing))
    assert failing.verb in str(error), f"the error does not name the verb {failing.verb!r}: {error}"
    partial = _partial(error, expected)
    rounds = failing.round + (failing.verb == "learn")
    fewest = min(map(len, partial.tokens))
    assert fewest >= rounds, f"after {rounds} complete rounds a sequence of `partial` has {fewest} tokens"


def an_interrupt_loses_nothing(engine: type[Engine], draw: Draw) -> None:
    """An interrupt reaches the caller with everything that was streamed in its `partial`."""
    work = draw(long_workloads())
    expected = work.run(engine).tokens
    last, seen = draw(st.integers(1, 4)), list[Piece]()

    def interrupt(piece: Piece) -> None:
        seen.append(piece)
        if len(seen) == last:
            raise KeyboardInterrupt

    partial = _partial(raised(KeyboardInterrupt, lambda: work.run(engine, on_piece=interrupt)), expected)
    streamed = [[t for piece in seen if piece.sequence == row for t in piece.tokens] for row in range(len(expected))]
    kept = [tokens[: len(told)] for tokens, told in zip(partial.tokens, streamed, strict=True)]
    assert kept == streamed, f"{streamed} was streamed, and `partial` holds {partial.tokens}"


def a_draft_gone_bad_changes_nothing(engine: type[Engine], draw: Draw) -> None:
    """Where the draft's logits are NaN or infinite a block ends; the output stays, and the statistics count it."""
    work = draw(long_workloads())
    expected = work.run(engine).tokens
    work.draft.table.fill_(draw(st.sampled_from([torch.nan, torch.inf, -torch.inf])))
    result = work.run(engine)
    assert result.tokens == expected, f"the target's own tokens are {expected}, and the engine's {result.tokens}"
    assert result.stats.drafted == 0, f"{result.stats.drafted} tokens were drawn from a distribution that is none"
    assert result.stats.nonfinite_drafts > 0, "nonfinite_drafts is 0"


def a_target_gone_bad_is_an_error(engine: type[Engine], draw: Draw) -> None:
    """NaN or infinite logits of the target are a GenerationError, with what was generated so far."""
    work = draw(long_workloads())
    work.target.table.fill_(draw(st.sampled_from([torch.nan, torch.inf, -torch.inf])))
    _partial(raised(GenerationError, lambda: work.run(engine)), [[]] * len(work.prompts))


def _partial(error: BaseException, expected: list[list[int]]) -> GenerationResult:
    """The result that the error carries: beginnings of `expected`, counted."""
    partial = getattr(error, "partial", None)
    assert isinstance(partial, GenerationResult), "the error carries no `partial` result"
    begun = [whole[: len(part)] for whole, part in zip(expected, partial.tokens, strict=True)]
    assert partial.tokens == begun, f"`partial` holds {partial.tokens}, and the whole output begins with {begun}"
    count, counted = sum(map(len, begun)), partial.stats.tokens
    assert counted == count, f"`partial` has {count} tokens, and its statistics count {counted}"
    return partial
