"""The ends of every range: no room to draft, all the room there is, nothing uncertain, nothing certain."""

from typing import Any

import torch
from hypothesis import strategies as st

from stopkit.policy import StoppingPolicy
from stopkit.testing.checks import Draw
from stopkit.testing.for_policies.playing import Play, assert_same, state_of, watched
from stopkit.testing.rounds import ONE_HOT, Rounds, rounds


def respects_its_cap(policy: StoppingPolicy, draw: Draw) -> None:
    """A cap is 0 or more, no block is longer than cap and limit, a limit of 0 drafts nothing, every round ends."""
    world, most = draw(rounds()), []

    def around(verb: Any, *given: Any) -> Any:
        answer = verb(*given)
        if verb.__name__ == "plan":
            cap, limit = answer[0], given[1].limit
            assert (cap >= 0).all(), f"plan: the cap is {cap.tolist()}; 0 is the least, and does not speculate"
            most.append(torch.minimum(cap, limit).tolist())
        return answer

    play = Play(watched(policy, around), world).through()
    for number, allowed in enumerate(most):
        drafted = [turns[number].drafted for turns in play.turns]
        assert all(map(int.__le__, drafted, allowed)), f"round {number} drafts {drafted} where {allowed} are allowed"


def survives_certain_and_uniform_drafts(policy: StoppingPolicy, draw: Draw) -> None:
    """Entropy 0 and log V, one-hot and uniform q, a vocabulary of one token: no error, no NaN in the state."""
    scales, sizes = st.sampled_from([0.0, ONE_HOT]), st.sampled_from([1, 2, 50])
    _survives(policy, draw(rounds(scale=scales, vocabulary=sizes)))


def survives_every_precision(policy: StoppingPolicy, draw: Draw) -> None:
    """Logits and hidden states in float16, bfloat16 or float64: no error, no NaN in the state."""
    dtypes, scales = st.sampled_from(["float16", "bfloat16", "float64"]), st.sampled_from([1.0, ONE_HOT])
    _survives(policy, draw(rounds(dtype=dtypes, scale=scales)))


def survives_the_longest_blocks(policy: StoppingPolicy, draw: Draw) -> None:
    """Hundreds of positions that all go well, up to the last that the policy's cap allows: no error, no NaN."""
    sequences, rounds_ = st.integers(1, 2), st.integers(1, 2)
    _survives(
        policy,
        draw(rounds(sequences=sequences, rounds=rounds_, longest=300, steady=True, scale=ONE_HOT, accepted="all")),
    )


def survives_the_end_of_all_sequences(policy: StoppingPolicy, draw: Draw) -> None:
    """A round in which every sequence is finished is no error, and changes nothing."""
    world = draw(rounds())
    before, after = (Play(policy, world).through() for _ in range(2))
    after.through(world.rounds, world.rounds + 1)
    for turns in after.turns:
        turns.pop()
    assert_same(after, before, world.everyone, "after a round of finished sequences", "before")


def _survives(policy: StoppingPolicy, world: Rounds) -> None:
    def around(verb: Any, *given: Any) -> Any:
        answer = verb(*given)
        lost = [place for place, value in state_of(answer).flat().items() if value.isnan().any()]
        assert not lost, f"{verb.__name__}: {', '.join(lost)} of the state is NaN"
        return answer

    Play(watched(policy, around), world).through()
