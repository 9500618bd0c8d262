"""Decisions of the wrong form, or made with a value that was fetched from the device."""

import torch
from torch import Tensor

from stopkit import RoundContext, RoundOutcome, Signals, State
from tests.meta.broken_policies.sound import Sound, caught_by


@caught_by("gives_decisions_over_the_rows", ", plan: TypeError: returned a decision of torch.float64")
class CapInFloats(Sound):
    """Forgets to round its length."""

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return torch.minimum(state["length"], context.limit), state


@caught_by("gives_decisions_over_the_rows", ", admit: TypeError: returned a decision of torch.bool []")
class OneAnswerForAll(Sound):
    """Answers once for all rows."""

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        return (signals.entropy <= self.threshold).all(), state


@caught_by("gives_decisions_over_the_rows", "add it to the policy's `signals`")
class UndeclaredSignal(Sound):
    """Reads a signal that it did not ask for."""

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        return signals.margin > 0.1, state


@caught_by("keeps_the_form_of_its_state", "learn: rows.length of the state is torch.int64")
class StateChangesDtype(Sound):
    """Learns whole numbers where it began with others."""

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        return state.put(length=super().learn(state, outcome)["length"].long())


@caught_by("keeps_the_form_of_its_state", "learn: rows.seen of the state is torch.float64 [1, 2]")
class StateGrows(Sound):
    """Keeps a list of all that it saw."""

    def init(self, batch_size: int, device: torch.device) -> State:
        return super().init(batch_size, device) | State(rows={"seen": torch.zeros(batch_size, 1).double().to(device)})

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        accepted = outcome.accepted.double().unsqueeze(1)
        return super().learn(state, outcome).put(seen=torch.cat([state["seen"], accepted], 1))


@caught_by("decides_on_the_device_of_the_engine", "on another device")
class ThinksOnTheHost(Sound):
    """Makes its tensors where torch makes them by default."""

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return torch.full((len(context.limit),), 2), state


@caught_by("decides_without_waiting_for_the_device", "reads a tensor's value into Python")
class DecidesByItem(Sound):
    """Looks at the largest limit."""

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return context.limit.clamp(max=int(context.limit.max().item())), state


@caught_by("decides_without_waiting_for_the_device", "reads a tensor's value into Python")
class BranchesOnATensor(Sound):
    """Saves itself the work if there is none."""

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        return super().learn(state, outcome) if (outcome.drafted > 0).any() else state


@caught_by("decides_without_waiting_for_the_device", "reads a tensor's value into Python")
class IndexesByAMask(Sound):
    """Makes tensors whose size depends on data."""

    def admit(self, state: State, position: Tensor, signals: Signals) -> tuple[Tensor, State]:
        sure = signals.entropy[signals.entropy > 1]
        return signals.entropy <= self.threshold + 0 * sure.sum(), state


@caught_by("compiles_without_a_break", "torch.compile breaks off")
class BreaksTheGraph(Sound):
    """Waits for no device, and tells the world."""

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        torch._dynamo.graph_break()
        return super().plan(state, context)


@caught_by("compiles_without_a_break", "when compiled")
class CompilesToSomethingElse(Sound):
    """Is bolder where it is compiled."""

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        return (context.limit if torch.compiler.is_compiling() else torch.zeros_like(context.limit)), state
