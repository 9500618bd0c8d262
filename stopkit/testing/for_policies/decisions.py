"""What a policy's decisions look like, and that tensor operations on the engine's device make them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from stopkit.policy import StoppingPolicy
from stopkit.scalar import ScalarPolicy
from stopkit.state import State
from stopkit.testing.checks import Draw, Skipped
from stopkit.testing.exact import assert_distribution_preserved
from stopkit.testing.for_policies.playing import Play, differences, identical, state_of, straight_round, watched
from stopkit.testing.rounds import Rounds, rounds
from stopkit.testing.strategies import cases

SMALL = {"sequences": 2, "rounds": 1, "vocabulary": 3, "longest": 2, "scale": 1.0, "accepted": "some", "steady": True}
"""Compiling takes long, so that there is little to shrink."""


def gives_decisions_over_the_rows(policy: StoppingPolicy, draw: Draw) -> None:
    """Every decision is a tensor [B] on the engine's device: long from `plan`, bool from `admit` and `extend`."""
    Play(policy, draw(rounds())).through()


def keeps_the_form_of_its_state(policy: StoppingPolicy, draw: Draw) -> None:
    """Names, shapes, dtypes and devices of the state stay what `init` made them, from verb to verb."""
    world = draw(rounds())
    begun = _form(policy.init(world.sequences, torch.device(world.device)))

    def around(verb: Any, *given: Any) -> Any:
        answer = verb(*given)
        form = _form(state_of(answer))
        for place in begun | form:
            before, after = (shapes.get(place, "missing") for shapes in (begun, form))
            assert before == after, f"{verb.__name__}: {place} of the state is {after}; init made it {before}"
        return answer

    Play(watched(policy, around), world).through()


def decides_on_the_device_of_the_engine(policy: StoppingPolicy, draw: Draw) -> None:
    """Everything that a verb makes is on the device that it is given; nothing is fetched from it."""
    _require_tensors(policy)
    with _in_words("a verb fetches a value from the engine's device, or makes one on another device"):
        decisions, state = straight_round(policy, *_round(policy, draw(rounds(rounds=1, device="meta"))))
    for place, value in [*(("a decision", decision) for decision in decisions), *state.flat().items()]:
        assert value.device.type == "meta", f"{place} is on {value.device}, and the engine works on another device"


def decides_without_waiting_for_the_device(policy: StoppingPolicy, draw: Draw) -> None:
    """No verb reads a tensor's value into Python, by `.item()`, by `if`, or for a shape that depends on data."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    _require_tensors(policy)
    world = draw(rounds(rounds=1, device="cpu"))
    with _in_words("a verb reads a tensor's value into Python"), FakeTensorMode(allow_non_fake_inputs=True):
        straight_round(policy, *_round(policy, world))


def compiles_without_a_break(policy: StoppingPolicy, draw: Draw) -> None:
    """`torch.compile(fullgraph=True)` takes a whole round of decisions, and they stay the same."""
    from torch._dynamo.eval_frame import is_dynamo_supported

    _require_tensors(policy)
    if not is_dynamo_supported():
        raise Skipped("torch.compile does not work with this Python or platform")
    given = _round(policy, draw(rounds(**SMALL)))
    decisions, state = straight_round(policy, *given)
    torch.compiler.reset()
    with _in_words("torch.compile breaks off"):
        compiled = torch.compile(straight_round, fullgraph=True, backend="eager")
        compiled_decisions, compiled_state = compiled(policy, *given)
    for eager, other in zip(decisions, compiled_decisions, strict=True):
        assert identical(eager, other), f"a decision is {eager.tolist()}, and {other.tolist()} when compiled"
    places = differences(state, compiled_state)
    assert not places, f"the state differs when compiled, at {', '.join(places)}"


def _round(policy: StoppingPolicy, world: Rounds) -> tuple[Any, ...]:
    """What `straight_round` takes: everyone's first round."""
    who = torch.arange(world.sequences, device=world.device)
    seen = [
        (world.signals(policy, who, 0, position), world.drawn(who, 0, position)) for position in range(world.longest)
    ]
    state = policy.init(world.sequences, torch.device(world.device))
    seconds = torch.ones((), dtype=torch.float64, device=world.device)
    return state, world.context(who, 0), seen, world.at("kept", who, 0), seconds


def _form(state: State) -> dict[str, str]:
    return {place: f"{value.dtype} {list(value.shape)} on {value.device}" for place, value in state.flat().items()}


def _require_tensors(policy: StoppingPolicy) -> None:
    if isinstance(policy, ScalarPolicy):
        raise Skipped("a ScalarPolicy decides in Python numbers, row by row")


@contextmanager
def _in_words(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        message = str(error).strip().partition("\n")[0]
        raise AssertionError(f"{what}: {type(error).__name__}: {message}") from error


def preserves_the_output_distribution(policy: StoppingPolicy, draw: Draw) -> None:
    """Over every random choice that the engine can make, the output has the target's distribution, to 1e-12."""
    case = draw(cases())
    assert_distribution_preserved(
        policy, case.target, case.draft, case.prompt, case.horizon, neighbours=case.neighbours, **case.sampling
    )
