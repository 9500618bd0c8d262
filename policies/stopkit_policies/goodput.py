"""`goodput`: draft on while one more token is worth its time.

What a round should make large is tokens − ρ·time, with ρ the best rate that can be reached. With S the probability that
all of the block so far will be accepted, and a that of the position to come given that, one more token is worth S·a. It
costs a draft step c and a block token's share of verification v. So, in target-step times, after every drawn token

    keep drafting  ⇔  S·a ≥ ρ·(c + v)

and before the first one, with S = 1 and g the tokens that a block has lately gained net of their costs once its first
was accepted,

    speculate  ⇔  a·(1 + g) ≥ ρ·(c + v + b)

where b is what a block costs whatever its length: in verification, and for what its first draft step takes beyond the
others. S never rises along a block: if the next token is not
worth it, no later one is. docs/explanation/goodput.md derives the rule.

* S and a come from an acceptance model that learns as it goes (`stopkit_policies.acceptance_model`).
* ρ is the rate of the latest rounds, by the cost model; they count 0.99 of those after them.
* A rule that does not speculate never sees what it misses: after 16 rounds without drafting it tries, after every try
  that did not make it speculate it waits 1.25 times as long, 64 rounds at most.
* In a batch a draft step and a column of the verification are paid once for all rows. A row's share is one over the
  rows that are expected to draft that far, by how far rows have drafted lately.

Source: this project. The rule for one request, with a fixed acceptance rate, is that of the renewal-reward theorem; a
rule that knows costs and decides not to speculate was left to future work in AdaEDL's appendix B.2. UCB-SpecStop (arXiv
2606.20591) states the problem as ratio-type optimal stopping, for lengths that are chosen before a round; rules that
learn the decision are LTD (arXiv 2603.01639) and SpecKV (arXiv 2605.02888).
"""

from typing import ClassVar

import torch
from torch import Tensor

from stopkit import Costs, Drawn, RoundContext, RoundOutcome, Signals, State, StoppingPolicy
from stopkit_policies import acceptance_model

FIRST_RATE, FIRST_ROUNDS = 1.2, 2.0
"""Tokens per target-step time before anything is measured, and how many rounds that counts."""
MEMORY = 0.99
"""The weight that past rounds keep in ρ at every new one."""
FIRST_GAIN, GAIN_SHARE, REACH_SHARE = 0.2, 0.05, 0.02
"""g before anything is measured; the share of the latest round in g, and in how far rows draft."""
FIRST_WAIT, LONGEST_WAIT, PATIENCE = 16.0, 64.0, 1.25
"""Rounds without drafting before the first try; at most; growth after a try in vain."""
LONGEST = 64
"""Positions whose reach is told apart; those after share the last one's."""


class Goodput(StoppingPolicy):
    """Drafts while a token is worth its time: aware of costs, able not to speculate, nothing to set."""

    kind: ClassVar[str] = "goodput"
    signals: ClassVar[frozenset[str]] = frozenset({"max_probability"})
    formula: ClassVar[str] = "draft on while S·a ≥ ρ·(c + v); S, a and ρ learned"
    source: ClassVar[str] = "this project"

    def init(self, batch_size: int, device: torch.device) -> State:
        number = torch.zeros(1, dtype=torch.float64, device=device)
        own = State(
            rows={"survival": number.repeat(batch_size) + 1},
            shared={
                "pace": torch.cat([number + FIRST_RATE, number + 1]) * FIRST_ROUNDS,
                "gain": number + FIRST_GAIN,
                "reach": number.repeat(LONGEST) + 1,
                "worth": number.repeat(LONGEST),
                "skipped": number,
                "wait": number + FIRST_WAIT,
            },
        )
        return own | acceptance_model.initial(batch_size, device)

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        rows, (token, block) = context.batch_size, _prices(state, context.costs)
        worth = token * rows / ((rows - 1) * state["reach"] + 1)
        first, state = acceptance_model.begin(state, context.last_token)
        willing = first * (state["gain"].relu() + 1) >= worth[0] + block
        trial = state["skipped"] >= state["wait"]
        worth = worth.where(context.active.any(), state["worth"])
        return context.limit * (willing | trial), state.put(survival=torch.ones_like(first), worth=worth)

    def extend(self, state: State, position: Tensor, signals: Signals, drawn: Drawn) -> tuple[Tensor, State]:
        following, own, here = acceptance_model.drawn(state, drawn.token, drawn.confidence(signals))
        survival = state["survival"] * own
        worth = state["worth"].index_select(0, (position + 1).clamp_max(LONGEST - 1))
        return survival * following >= worth, state.put(survival=survival, here=here)

    def estimate(self, state: State, position: Tensor, signals: Signals, drawn: Drawn) -> Tensor:
        """The probability that the drawn token will be accepted, [B], as `extend` sees it."""
        _, own, _ = acceptance_model.drawn(state, drawn.token, drawn.confidence(signals))
        return own

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        pace, skipped, wait = state["pace"], state["skipped"], state["wait"]
        rows = outcome.context.active.sum()
        any_active = rows > 0
        if not outcome.drawn:  # one token in one target step
            return state.put(pace=(pace * MEMORY + 1).where(any_active, pace), skipped=skipped + any_active)
        drafted, accepted, costs = outcome.drafted, outcome.accepted, outcome.context.costs
        columns, opened, (token, _) = drafted.amax(), accepted > 0, _prices(state, costs)
        any_drafted, openings = columns > 0, opened.sum()
        tokens = accepted.sum() / rows.double() + 1
        time = costs.round(columns) / costs.verify
        gained = ((accepted - token * drafted) * opened).sum() / openings.clamp_min(1) + token - 1
        reach = (torch.arange(LONGEST, device=drafted.device) < drafted.unsqueeze(1)).sum(0) / rows.double()
        longer = (wait * PATIENCE).clamp_max(LONGEST_WAIT).where(skipped >= wait, FIRST_WAIT)
        state = state.put(
            pace=(pace * MEMORY + torch.stack([tokens, time])).where(any_active, pace),
            gain=torch.lerp(state["gain"], gained, GAIN_SHARE).where(openings > 0, state["gain"]),
            reach=torch.lerp(state["reach"], reach, REACH_SHARE).where(any_drafted, state["reach"]),
            skipped=(skipped + any_active) * ~any_drafted,
            wait=longer.where(any_drafted, wait),
        )
        confidence = [drawn.confidence(signals) for signals, drawn in zip(outcome.signals, outcome.drawn, strict=False)]
        return acceptance_model.learn(state, outcome, torch.stack(confidence, 1))


def _prices(state: State, costs: Costs) -> tuple[Tensor, Tensor]:
    """ρ·(c + v) and ρ·b: what one more token costs, and a block whatever its length, in tokens."""
    tokens, time = state["pace"].unbind()
    second = tokens / (time * costs.verify)
    return second * costs.token, second * costs.block
