"""`goodput`: draft on while one more token is worth its time.

What a round should make large is tokens − ρ·time, with ρ the best rate that can be reached. With S the probability that
all of the block so far will be accepted, and a that of the position to come given that, one more token is worth S·a. It
costs a draft step c and a block token's share of verification v. So, in target-step times, after every drawn token

    keep drafting  ⇔  S·a ≥ ρ·(c + v)

and before the first one, with S = 1 and g the tokens that a block has lately gained net of their costs once its first
was accepted,

    speculate  ⇔  a·(1 + g) ≥ ρ·(c + v + b)

where b is what a block costs in verification whatever its length. S never rises along a block: if the next token is not
worth it, no later one is. docs/explanation/goodput.md derives the rule.

* S and a come from an acceptance model that learns as it goes (`stopkit_policies.acceptance_model`).
* ρ is the rate of the latest rounds, by the cost model; they count 0.99 of those after them.
* A rule that does not speculate never sees what it misses: after 16 rounds without drafting it tries, after every try
  that did not make it speculate it waits 1.25 times as long, 64 rounds at most.
* In a batch a draft step and a column of the verification are paid once for all rows. A row's share is one over the
  rows that are expected to draft that far, by how far rows have drafted lately.

Source: this project. The rule for one request, with a fixed acceptance rate, is that of the renewal-reward theorem; a
rule that knows costs and decides not to speculate was left to future work in AdaEDL's appendix B.2.
"""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from stopkit import Costs, Drawn, RoundContext, RoundOutcome, Signals, State, StoppingPolicy
from stopkit_policies import acceptance_model

FIRST_RATE, FIRST_ROUNDS = 1.2, 2.0
"""Tokens per target-step time before anything is measured, and how many rounds that counts."""
MEMORY = 0.99
"""Of past rounds, at every round, in ρ."""
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
            rows={"joint": number.repeat(batch_size)},
            shared={
                "tokens": number + FIRST_RATE * FIRST_ROUNDS,
                "time": number + FIRST_ROUNDS,
                "gain": number + FIRST_GAIN,
                "reach": number.repeat(LONGEST) + 1,
                "worth": number.repeat(LONGEST),
                "skipped": number,
                "wait": number + FIRST_WAIT,
            },
        )
        return own | acceptance_model.initial(batch_size, device)

    def plan(self, state: State, context: RoundContext) -> tuple[Tensor, State]:
        costs, rows = context.costs, context.batch_size.clamp(min=1)
        rate = state["tokens"] / state["time"]
        crowd = 1 + (rows - 1) * state["reach"]
        worth = rate * _token_time(costs) * rows / crowd
        odds, state = acceptance_model.begin(state, context.last_token)
        willing = (
            odds.sigmoid() * (1 + state["gain"].clamp(min=0)) >= worth[0] + rate * costs.verify_block / costs.verify
        )
        trial = state["skipped"] >= state["wait"]
        cap = context.limit.where(willing | trial, 0)
        after = torch.cat([worth[1:], worth[-1:]]).log().where(context.active.any(), state["worth"])
        return cap, state.put(joint=torch.zeros_like(state["joint"]), worth=after)

    def extend(self, state: State, position: Tensor, signals: Signals, drawn: Drawn) -> tuple[Tensor, State]:
        own, following, here = acceptance_model.drawn(state, drawn.token, _confidence(signals, drawn))
        joint = state["joint"] + logsigmoid(own)
        worth = state["worth"].index_select(0, position.clamp(max=LONGEST - 1))
        return joint + logsigmoid(following) >= worth, state.put(joint=joint, here=here)

    def estimate(self, state: State, position: Tensor, signals: Signals, drawn: Drawn) -> Tensor:
        """The probability that the drawn token will be accepted, [B], as `extend` sees it."""
        own, _, _ = acceptance_model.drawn(state, drawn.token, _confidence(signals, drawn))
        return own.sigmoid()

    def learn(self, state: State, outcome: RoundOutcome) -> State:
        active, costs = outcome.context.active, outcome.context.costs
        rows, any_active = active.sum().clamp(min=1), active.any()
        drafted, accepted = outcome.drafted.where(active, 0), outcome.accepted.where(active, 0)
        columns = drafted.amax()
        any_drafted = columns > 0
        time = (costs.draft_step * columns + costs.verification(columns)) / costs.verify
        tokens = (accepted + active).sum() / rows.double()
        memory = MEMORY ** any_active.double()

        price = state["tokens"] / state["time"] * _token_time(costs)
        opened = accepted > 0
        openings = opened.sum()
        gained = (accepted - 1 - price * (drafted - 1)).where(opened, 0).sum() / openings.clamp(min=1)
        gain_share = GAIN_SHARE * (openings > 0).double()
        deep = torch.arange(LONGEST, device=active.device) < drafted.unsqueeze(1)
        reach = deep.double().sum(0) / rows

        skipped, wait = state["skipped"], state["wait"]
        longer = (wait * PATIENCE).clamp(max=LONGEST_WAIT).where(skipped >= wait, FIRST_WAIT)
        state = state.put(
            tokens=state["tokens"] * memory + tokens,
            time=state["time"] * memory + time * any_active,
            gain=torch.lerp(state["gain"], gained, gain_share),
            reach=torch.lerp(state["reach"], reach, REACH_SHARE * any_drafted.double()),
            skipped=(skipped + any_active).where(~any_drafted, 0),
            wait=wait.where(~any_drafted, longer),
        )
        if not outcome.drawn:
            return state
        confidence = [_confidence(*seen) for seen in zip(outcome.signals, outcome.drawn, strict=False)]
        return acceptance_model.learn(state, outcome, torch.stack(confidence, 1))


def _token_time(costs: Costs) -> Tensor:
    """c + v, what one more token takes, in target-step times."""
    return (costs.draft_step + costs.verify_token) / costs.verify


def _confidence(signals: Signals, drawn: Drawn) -> Tensor:
    """q(x) in the distribution that signals describe, [B]; at temperature 0, x is its most probable token."""
    return torch.minimum(drawn.probability, signals.max_probability)
