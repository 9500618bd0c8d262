"""A policy learns from what happened, from all that may happen, and from nothing else."""

import math

from hypothesis import strategies as st

from stopkit.policy import StoppingPolicy
from stopkit.testing.checks import Draw
from stopkit.testing.for_policies.playing import Play, assert_same
from stopkit.testing.rounds import rounds

NOISE = [math.nan, math.inf, 1e30, -1e30]


def learns_from_any_round(policy: StoppingPolicy, draw: Draw) -> None:
    """Rounds with nothing drafted, all accepted or none accepted are no error; what is finite stays finite."""
    world = draw(rounds())
    play = Play(policy, world)
    finite = {place for place, value in play.state.flat().items() if value.isfinite().all()}
    for number in range(world.rounds):
        play.through(number, number + 1)
        lost = [place for place, value in play.state.flat().items() if place in finite and not value.isfinite().all()]
        assert not lost, f"after round {number}, {', '.join(lost)} of the state is not finite"


def learns_nothing_from_finished_sequences(policy: StoppingPolicy, draw: Draw) -> None:
    """Rows that take no part in a round teach nothing: without them, the same is learned."""
    world = draw(rounds())
    some = [sequence for sequence in world.everyone if world.met["finish"][sequence, 0] > 0]
    if not some:
        return
    every, fewer = Play(policy, world).through(), Play(policy, world, some).through()
    assert_same(fewer, every, some, "without the finished", "beside finished sequences")


def learns_nothing_from_values_without_meaning(policy: StoppingPolicy, draw: Draw) -> None:
    """What is shown of rows that had stopped or are finished changes nothing, whatever it is."""
    world, noise = draw(rounds()), draw(st.sampled_from(NOISE))
    clean, noisy = Play(policy, world).through(), Play(policy, world, noise=noise).through()
    assert_same(noisy, clean, world.everyone, f"with {noise} where values mean nothing", "with other values there")
