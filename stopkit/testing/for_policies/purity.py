"""A policy is a function: it remembers in its state, and nowhere else, and touches nothing."""

import random
import sys
from typing import Any

import torch

from stopkit.kinds import as_block
from stopkit.policy import StoppingPolicy
from stopkit.testing.checks import Draw
from stopkit.testing.for_policies.playing import Play, assert_same, identical, tensors, watched
from stopkit.testing.rounds import rounds

SEED = 7654321
"""One that no policy would seed a generator with."""


def gives_equal_answers_to_equal_questions(policy: StoppingPolicy, draw: Draw) -> None:
    """A verb called twice with the same arguments answers the same."""

    def around(verb: Any, *given: Any) -> Any:
        first, second = verb(*given), verb(*given)
        assert _same(first, second), f"{verb.__name__}: a second call with the same arguments answers otherwise"
        return second

    Play(watched(policy, around), draw(rounds())).through()


def leaves_its_inputs_unchanged(policy: StoppingPolicy, draw: Draw) -> None:
    """No verb changes the state, the context, the signals, the drawn tokens or the outcome in place."""

    def around(verb: Any, *given: Any) -> Any:
        before = [[value.clone() for value in tensors(argument)] for argument in given]
        answer = verb(*given)
        for argument, kept in zip(given, before, strict=True):
            name = "position" if isinstance(argument, torch.Tensor) else type(argument).__name__
            assert _same(kept, argument), f"{verb.__name__}: changes the {name} that it is given in place"
        return answer

    Play(watched(policy, around), draw(rounds())).through()


def leaves_global_randomness_alone(policy: StoppingPolicy, draw: Draw) -> None:
    """No verb draws from, or seeds, a random generator of Python, numpy or torch."""
    world = draw(rounds())
    with torch.random.fork_rng():
        _seed_all(SEED)
        before = _generators(world.device)
        Play(policy, world).through()
        after = _generators(world.device)
    touched = [name for name in before if before[name] != after[name]]
    assert not touched, f"the random generator of {' and '.join(touched)} moved"


def remembers_only_in_its_state(policy: StoppingPolicy, draw: Draw) -> None:
    """A policy that has worked decides like a new one, and its fields are what they were."""
    world, other = draw(rounds()), draw(rounds())
    fields = as_block(policy)
    everyone = world.everyone
    first = Play(policy, world).through()
    Play(policy, other).through()
    again = Play(policy, world).through()
    assert as_block(policy) == fields, f"its fields were {fields} and are {as_block(policy)}"
    assert_same(again, first, everyone, "with a policy that has done other work", "before that work")
    fresh = Play(type(policy).model_validate(dict(policy)), world).through()
    assert_same(again, fresh, everyone, "with a policy that has done other work", "with a new one")


def _same(first: Any, second: Any) -> bool:
    ours, theirs = list(tensors(first)), list(tensors(second))
    return len(ours) == len(theirs) and all(map(identical, ours, theirs))


def _seed_all(seed: int) -> None:
    """Hypothesis puts the generators of Python and numpy back after every example."""
    torch.manual_seed(seed)
    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed)


def _generators(device: str) -> dict[str, Any]:
    states = {"Python": random.getstate(), "torch": torch.get_rng_state().tolist()}
    if numpy := sys.modules.get("numpy"):
        states["numpy"] = str(numpy.random.get_state())
    if device == "cuda":
        states["CUDA"] = torch.cuda.get_rng_state().tolist()
    return states
