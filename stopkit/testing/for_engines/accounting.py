"""The statistics: exact, and of what really happened."""

from itertools import chain, zip_longest

from stopkit.engine import Engine
from stopkit.statistics import PHASES, Statistics
from stopkit.testing.checks import Draw
from stopkit.testing.for_engines.drafting import Blocks, Recorder
from stopkit.testing.for_engines.workloads import workloads

COUNTS = ("tokens", "rounds", "drafted", "accepted", "nonfinite_drafts")
BY_POSITION = ("offered_by_position", "accepted_by_position")


def statistics_add_up(engine: type[Engine], draw: Draw) -> None:
    """Totals are the sums of the sequences' counts, blocks by position add up to tokens, and forwards bound rounds."""
    work = draw(workloads())
    result = work.run(engine)
    stats, rows = result.stats, [continuation.stats for continuation in result.continuations]
    for name in COUNTS:
        equal(f"the sum of {name} over the sequences", sum(getattr(row, name) for row in rows), getattr(stats, name))
    for name in BY_POSITION:
        summed = [sum(column) for column in zip_longest(*(getattr(row, name) for row in rows), fillvalue=0)]
        equal(f"the sum of {name} over the sequences", summed, getattr(stats, name))
    for row, tokens in zip([*rows, stats], [*result.tokens, list(chain(*result.tokens))], strict=True):
        equal("the number of tokens", len(tokens), row.tokens)
        equal("the sum of offered_by_position", sum(row.offered_by_position), row.drafted)
        equal("the sum of accepted_by_position", sum(row.accepted_by_position), row.accepted)
        equal("the length of accepted_by_position", len(row.accepted_by_position), len(row.offered_by_position))
        for accepted, offered in zip(row.accepted_by_position, row.offered_by_position, strict=True):
            assert accepted <= offered, f"{accepted} tokens were accepted at a position that {offered} were drafted at"
        dropped = row.accepted + row.rounds - row.tokens
        ended = sum(each.finish_reason in ("eos", "stop") for each in result.continuations)
        assert dropped == 0 or (ended > 0 and dropped > 0), (
            f"{row.accepted} accepted tokens in {row.rounds} rounds do not make {row.tokens} tokens"
        )
    _check_forwards(stats, rows)
    assert set(stats.seconds) == set(PHASES), f"the parts of the seconds are {sorted(stats.seconds)}, not {PHASES}"
    assert min(stats.seconds.values()) >= 0, f"seconds below zero: {stats.seconds}"
    assert sum(stats.seconds.values()) > 0, "no time has passed"


def statistics_count_what_the_policy_saw(engine: type[Engine], draw: Draw) -> None:
    """Rounds, drafted and accepted tokens, in all and by position, are those of the outcomes that `learn` is given."""
    work = draw(workloads(policy=Recorder))
    result = work.run(engine)
    assert isinstance(work.policy, Recorder)
    for row, continuation in enumerate(result.continuations):
        outcomes = [played.outcome for played in work.policy.rounds if played.context.active[row]]
        drafted = [int(outcome.drafted[row]) for outcome in outcomes]
        accepted = [int(outcome.accepted[row]) for outcome in outcomes]
        expected = {
            "rounds": len(outcomes),
            "drafted": sum(drafted),
            "accepted": sum(accepted),
            "offered_by_position": [sum(count > i for count in drafted) for i in range(max(drafted))],
            "accepted_by_position": [sum(count > i for count in accepted) for i in range(max(drafted))],
        }
        for name, value in expected.items():
            equal(f"{name} of sequence {row}", value, getattr(continuation.stats, name))


def no_draft_forward_is_run_for_nothing(engine: type[Engine], draw: Draw) -> None:
    """Where the policy plans no drafting the draft model is not run."""
    stats = draw(workloads()).run(engine, policy=Blocks(caps=(0,))).stats
    equal("the number of draft forwards where nothing is drafted", 0, stats.draft_forwards)
    equal("the number of tokens drafted under a cap of 0", 0, stats.drafted)
    equal("the seconds of drafting where nothing is drafted", 0.0, stats.seconds["draft"])


def equal(what: str, expected: object, reported: object) -> None:
    """Fail with words."""
    assert reported == expected, f"{what} is {expected}, and the statistics say {reported}"


def _check_forwards(stats: Statistics, rows: list[Statistics]) -> None:
    rounds, drafted = max(row.rounds for row in rows), max(row.drafted for row in rows)
    assert rounds <= stats.target_forwards <= stats.rounds + len(rows), (
        f"{stats.target_forwards} target forwards cannot have made {rounds} rounds of one sequence, {stats.rounds} of "
        f"all {len(rows)}"
    )
    assert drafted <= stats.draft_forwards, (
        f"{stats.draft_forwards} draft forwards cannot have made the {drafted} drafted tokens of one sequence"
    )
