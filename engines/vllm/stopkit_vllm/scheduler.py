"""One draft length a step for the whole batch: for policies that only plan, and drafters that ask nobody (EAGLE, MTP).

`--scheduler-cls stopkit_vllm.AsyncPlanScheduler`, or `PlanScheduler` with `--no-async-scheduling`. It stands in for
vLLM's table of draft lengths by batch size. The policy plans for each request; the longest of the plans is drafted for
all. A step's drafts are planned before it is known what became of the step before.
"""

from collections.abc import Sequence
from typing import Any

import torch
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler

from stopkit import InputError, RoundContext, RoundOutcome, State, StoppingPolicy
from stopkit.costs import CostModel
from stopkit.roster import Roster
from stopkit_vllm.options import VARIABLE, Options, options_of
from stopkit_vllm.refusals import require_version

CPU = torch.device("cpu")


class Planning(Scheduler):
    """A scheduler whose draft lengths a policy plans."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        require_version()
        self._plans = Plans(options_of(self.vllm_config), self.num_spec_tokens)
        self.dynamic_sd_lookup = Lengths(self)

    def make_spec_decoding_stats(self, *args: Any, **kwargs: Any) -> Any:
        """vLLM's, of which the policy learns."""
        self._plans.note(kwargs["request_id"], kwargs["num_draft_tokens"], kwargs["num_accepted_tokens"])
        return super().make_spec_decoding_stats(*args, **kwargs)


class PlanScheduler(Planning):
    """For `--no-async-scheduling`, and for CPUs, where there is none."""


class AsyncPlanScheduler(Planning, AsyncScheduler):
    """For asynchronous scheduling, the default on GPUs."""


class Lengths:
    """What vLLM takes for its table of draft lengths by batch size."""

    def __init__(self, scheduler: Planning) -> None:
        self._scheduler = scheduler

    def __getitem__(self, batch_size: int) -> int:
        """The draft length of this step."""
        return self._scheduler._plans.length([request.request_id for request in self._scheduler.running])


class Plans:
    """A policy that only plans, for requests by name. `most` is the longest block."""

    def __init__(self, options: Options | None, most: int) -> None:
        policy = options.policy if options else None
        if options is None or policy is None:
            raise InputError(f"stopkit: the scheduler needs a policy, in --additional-config or in {VARIABLE}.")
        _require_planning(policy)
        self._policy, self._most = policy, most
        self._costs = CostModel(options.costs).costs(CPU)
        self._roster = Roster(lambda count: policy.init(count, CPU), [], CPU, options.learned(policy))
        self._news: dict[str, tuple[int, int]] = {}

    def note(self, name: str, drafted: int, accepted: int) -> None:
        """What became of a request's last block."""
        self._news[name] = drafted, accepted

    def length(self, names: Sequence[str]) -> int:
        """The draft length for the requests `names`, once what is new has been learned."""
        self._roster.forget([name for name in self._roster.ids if name not in names and name not in self._news])
        self._roster.seat([*names, *(name for name in self._news if name not in names)])
        rows = [str(name) for name in self._roster.ids]
        news = [self._news.get(name, (0, 0)) for name in rows]
        drafted, accepted = torch.tensor(news, dtype=torch.long).view(-1, 2).unbind(1)
        context = self._context([name in self._news for name in rows])
        longest = torch.tensor(max((block for block, _ in news), default=0), dtype=torch.float64)
        outcome = RoundOutcome(context, drafted, accepted, seconds=context.costs.round(longest))
        self._keep(self._policy.learn(self._roster.state, outcome), outcome.context)
        self._news = {}
        context = self._context([name in names for name in rows])
        caps, state = self._policy.plan(self._roster.state, context)
        self._keep(state, context)
        return int(torch.minimum(caps, context.limit).max()) if rows else self._most

    def _context(self, active: Sequence[bool]) -> RoundContext:
        flags = torch.tensor(active, dtype=torch.bool)
        return RoundContext(flags, self._most * flags.long(), self._costs)

    def _keep(self, state: State, context: RoundContext) -> None:
        self._roster.state = state.where(context.active, self._roster.state)


def _require_planning(policy: StoppingPolicy) -> None:
    """Raise InputError for a policy that decides token by token, as one length a step cannot follow it."""
    decides = type(policy).admit is not StoppingPolicy.admit or type(policy).extend is not StoppingPolicy.extend
    if decides or policy.required_signals or policy.required_context:
        raise InputError(
            f"stopkit: policy {policy.kind!r} looks at tokens or texts, and the scheduler knows what was accepted; "
            "give a policy that plans from that, such as best_length, batch_table, ema_length or staircase."
        )
