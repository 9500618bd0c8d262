"""The policy decides: what it is shown is true, and what it answers is done."""

import math

import torch

from stopkit.engine import Engine
from stopkit.errors import InputError
from stopkit.signals import OF_PROBABILITIES
from stopkit.testing.checks import Draw
from stopkit.testing.exact import COSTS, reference_probabilities
from stopkit.testing.for_engines.drafting import Recorder, Round
from stopkit.testing.for_engines.workloads import Workload, raised, workloads

CLOSE = 1e-9


def recorded(
    engine: type[Engine], draw: Draw, prompts: tuple[int, int] = (1, 3)
) -> tuple[Workload, list[list[int]], list[Round]]:
    """A workload that no sequence ends early, its tokens, and the rounds that made them."""
    work = draw(workloads(may_end=False, prompts=prompts, policy=Recorder))
    tokens = work.run(engine).tokens
    assert isinstance(work.policy, Recorder)
    return work, tokens, work.policy.rounds


def blocks_are_as_long_as_the_policy_decides(engine: type[Engine], draw: Draw) -> None:
    """No block passes the policy's cap or the limit, a refused position enters none, and none ends by itself."""
    work, _, rounds = recorded(engine, draw)
    left = [work.max_new_tokens] * len(work.prompts)
    for number, round_ in enumerate(rounds):
        for row, (drafted, accepted, limit) in enumerate(
            zip(
                round_.outcome.drafted.tolist(),
                round_.outcome.accepted.tolist(),
                round_.context.limit.tolist(),
                strict=True,
            )
        ):
            where = f"round {number}, sequence {row}"
            assert bool(round_.context.active[row]) == (left[row] > 0), (
                f"{where}: active is wrong with {left[row]} to go"
            )
            assert limit <= max(0, left[row] - 1), f"{where}: the limit is {limit} with {left[row]} tokens to go"
            decided = round_.drafted(row)
            assert drafted == decided, f"{where}: {drafted} tokens were drafted, and the policy decided on {decided}"
            for count in range(min(drafted + 1, len(round_.positions))):
                asked = int(round_.positions[count][row])
                assert count == drafted or asked == count, f"{where}: position {count} was called {asked}"
            assert 0 <= accepted <= drafted, f"{where}: {accepted} of {drafted} tokens are said to be accepted"
            left[row] -= (accepted + 1) * (left[row] > 0)


def signals_describe_the_drafts_distribution(engine: type[Engine], draw: Draw) -> None:
    """The signals and the probability of a drawn token are those of the draft after exactly that prefix."""
    work, (tokens,), rounds = recorded(engine, draw, prompts=(1, 1))
    shown_sampling = work.sampling if work.sampling["temperature"] else {}
    prefix = list(work.prompts[0])
    for round_ in rounds:
        block: list[int] = []
        for position in range(len(round_.signals)):
            seen, signals = prefix + block, round_.signals[position]
            logits = work.draft(input_ids=torch.tensor([seen])).logits[0, -1]
            shown = torch.tensor(reference_probabilities(logits.tolist(), **shown_sampling), dtype=torch.float64)
            expected = {"logits": logits, **{name: of(shown) for name, of in OF_PROBABILITIES.items()}}
            for name, value in expected.items():
                shown = getattr(signals, name)[0]
                assert torch.allclose(shown.double(), value.double(), rtol=0, atol=CLOSE), (
                    f"after {seen}, {name} is {value.tolist()} and the policy was shown {shown.tolist()}"
                )
            if position < len(round_.drawn):
                drawn = round_.drawn[position]
                block.append(int(drawn.token[0]))
                q = reference_probabilities(logits.tolist(), **work.sampling)[block[-1]]
                assert q > 0, f"after {seen}, token {block[-1]} was drawn, whose probability is 0"
                claimed = float(drawn.probability[0])
                assert abs(q - claimed) < CLOSE, (
                    f"after {seen}, {block[-1]} is drawn with probability {q}, and {claimed} is told"
                )
        accepted = int(round_.outcome.accepted[0])
        assert tokens[len(prefix) - len(work.prompts[0]) :][:accepted] == block[:accepted], (
            f"after {prefix}, {accepted} tokens of {block} were accepted, and the output is {tokens}"
        )
        prefix = work.prompts[0] + tokens[: len(prefix) - len(work.prompts[0]) + accepted + 1]


def the_context_describes_the_text(engine: type[Engine], draw: Draw) -> None:
    """Every row's last token, its length and the target's entropy at that token are true, or are said to be unknown."""
    work, outputs, rounds = recorded(engine, draw)
    shown_sampling = work.sampling if work.sampling["temperature"] else {}
    texts, lengths = [p + o for p, o in zip(work.prompts, outputs, strict=True)], [len(p) for p in work.prompts]
    for round_ in rounds:
        context = round_.context
        for row in context.active.nonzero().flatten().tolist():
            text = texts[row][: lengths[row]]
            last, length, entropy = (getattr(context, name)[row].item() for name in ("last_token", "length", "entropy"))
            assert last in (text[-1], -1), f"after {text}, the last token is said to be {last}"
            assert length in (len(text), -1), f"after {text}, the length is said to be {length}"
            begun = len(text) > len(work.prompts[row])
            assert begun or math.isnan(entropy), f"the target has said nothing yet, and its entropy is told: {entropy}"
            logits = work.target(input_ids=torch.tensor([text[:-1] or [0]])).logits[0, -1].tolist()
            p = reference_probabilities(logits, **shown_sampling)
            expected = -math.fsum(chance * math.log(chance) for chance in p if chance > 0)
            assert math.isnan(entropy) or abs(entropy - expected) < CLOSE, (
                f"after {text}, the target's entropy at its last token was {expected}, and {entropy} is told"
            )
            lengths[row] += int(round_.outcome.accepted[row]) + 1


def fixed_costs_are_told_and_charged(engine: type[Engine], draw: Draw) -> None:
    """With `costs` fixed the policy is told these and no others, and a round takes exactly what they add up to."""
    _, _, rounds = recorded(engine, draw)
    for number, round_ in enumerate(rounds):
        shown = {name: float(getattr(round_.context.costs, name)) for name in COSTS}
        assert shown == COSTS, f"round {number}: the costs are fixed at {COSTS}, and the policy was told {shown}"
        steps, longest = len(round_.signals), int(round_.outcome.drafted.max())
        expected = COSTS["draft_step"] * steps + COSTS["verify"] + COSTS["verify_token"] * longest
        assert abs(float(round_.outcome.seconds) - expected) < CLOSE, (
            f"round {number}: {steps} draft steps and a block of {longest} take {expected} s at these costs, and "
            f"{float(round_.outcome.seconds)} s were told"
        )


def a_generation_goes_on_from_a_state(engine: type[Engine], draw: Draw) -> None:
    """`state` begins with what an earlier result's policy remembered; one that does not fit is refused."""
    work, _, rounds = recorded(engine, draw)
    before = work.run(engine)
    rounds.clear()
    after = work.run(engine, state=before.state)
    begun, left = rounds[0].state["turn"].tolist(), before.state["turn"].tolist()
    assert begun == left, f"a generation ended with turn {left}, and the one that goes on from it began with {begun}"
    assert len(after.state["turn"]) == len(work.prompts), "the state does not hold the sequences of the result"
    more = [*work.prompts, [0]]
    error = raised(InputError, lambda: work.run(engine, prompts=more, seeds=None, state=before.state))
    assert "state" in str(error), f"the error does not name the state: {error}"
