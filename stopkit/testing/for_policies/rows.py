"""Rows are independent: what happens in one reaches another only through what the policy declares as shared."""

from dataclasses import dataclass

import torch
from hypothesis import strategies as st

from stopkit.policy import StoppingPolicy
from stopkit.testing.checks import Draw, Skipped
from stopkit.testing.for_policies.playing import Play, assert_same
from stopkit.testing.rounds import Rounds, rounds


@dataclass(frozen=True)
class Change:
    """Who goes on, in this order, and which new sequence comes after them, when some rounds are done."""

    after: int
    stay: list[int]
    join: int


def decides_row_by_row(policy: StoppingPolicy, draw: Draw) -> None:
    """Within a round, rows in another order, fewer or repeated, get the decisions that they would have had."""
    world = draw(rounds())
    rows = draw(st.lists(st.sampled_from(world.everyone), min_size=1, max_size=4))
    last = world.rounds - 1
    every, some = (Play(policy, world).through(0, last) for _ in range(2))
    every.through(last)
    some.select(rows).through(last)
    for row, twin in enumerate(rows):
        mine, its = some.turns[row][last], every.turns[twin][last]
        assert mine == its, f"row {twin} of {world.sequences} drafts otherwise in rows {rows}: {mine} and not {its}"


def shares_only_what_it_declares(policy: StoppingPolicy, draw: Draw) -> None:
    """A batch decides and remembers as its rows would alone, bit for bit, unless the policy couples rows."""
    if policy.couples_rows:
        raise Skipped("the policy declares that its rows share what they learn")
    world = draw(rounds())
    together = Play(policy, world).through()
    for sequence in world.everyone:
        alone = Play(policy, world, [sequence]).through()
        assert_same(alone, together, [sequence], "alone", "beside the others")


def lets_sequences_leave_and_join(policy: StoppingPolicy, draw: Draw) -> None:
    """Between rounds rows may be dropped, reordered and added; those that stay go on as if nothing had happened."""
    world = draw(rounds())
    change = draw(_changes(world))
    play = Play(policy, world).through(0, change.after).select(change.stay).add(change.join)
    fresh = policy.init(len(change.stay) + 1, torch.device(world.device))
    assert play.state.matches(fresh), "the state of the rows that are left and joined has not the form of a new one"
    play.through(change.after)
    if policy.couples_rows:
        return  # the rows are in other company, from whom it may learn otherwise
    for row, sequence in enumerate(change.stay):
        alone = Play(policy, world, [sequence]).through()
        assert_same(alone, play, [row], "alone", "while others leave and join")
    late = Play(policy, world, [change.join]).through(change.after)
    assert_same(late, play, [len(change.stay)], "alone", "joining others later")


def _changes(world: Rounds) -> st.SearchStrategy[Change]:
    sequence = st.sampled_from(world.everyone)
    stay = st.lists(sequence, min_size=1, unique=True)
    return st.builds(Change, after=st.integers(0, world.rounds), stay=stay, join=sequence)
