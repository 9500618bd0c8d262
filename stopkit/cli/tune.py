"""`stopkit tune`: search a policy's fields on a recording, and write the config file of the best."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stopkit.cli.app import Command
from stopkit.cli.options import json_option
from stopkit.cli.outputs import output_option, save
from stopkit.cli.trace.options import cost_options, costs_of, opened
from stopkit.cli.trace.places import ray_options

if TYPE_CHECKING:
    from stopkit.intervals import Interval
    from stopkit.policy import StoppingPolicy
    from stopkit.trace.nearest import Nearest
    from stopkit.trace.tuning import Tuning

FILE = click.Path(path_type=Path)
NAMES = ("vllm", "llama.cpp", "transformers", "sglang")
"""The servers of `stopkit.trace.servers`, which is not loaded for the help."""


@click.command(cls=Command)
@click.argument("kind")
@click.option("--trace", "path", type=FILE, required=True, metavar="TRACE", help="The recording to tune on.")
@output_option(
    "--out", holds="config", type=FILE, default=Path("tuned.toml"), show_default=True, help="Config file to write."
)
@click.option("--trials", type=click.IntRange(min=1), default=100, show_default=True, help="Trials altogether.")
@click.option("--fields", metavar="A,B,…", help="Search these fields alone; a table's name stands for its fields.")
@click.option(
    "--held-out",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Share of the sequences to judge by, and not to tune on.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the split and the search.")
@click.option("--storage", metavar="URL", help="Any Optuna storage; default: an SQLite file beside --out.")
@click.option(
    "--for",
    "servers",
    type=click.Choice(NAMES),
    multiple=True,
    help="Say the nearest settings of a server that runs without stopkit, too; can be repeated.",
)
@cost_options
@ray_options("one a machine")
@json_option
def tune(
    kind: str,
    path: Path,
    out: Path,
    trials: int,
    fields: str | None,
    held_out: float,
    seed: int,
    storage: str | None,
    servers: tuple[str, ...],
    ray: str | None,
    workers: int | None,
    max_new_tokens: int | None,
    sequences: int | None,
    json_file: str | None,
    **costs: Any,
) -> None:
    """Search the fields of a policy on a recording.

    KIND is a policy: KIND, KIND:field=value, a config file or FILE.py; fields that are not searched keep their values.
    What is searched for is the highest geometric mean of the speed-up over the costs. Interrupted, or run again with
    more trials, the search goes on where it was; several machines can share one through --storage. With --for, the
    settings of a server are searched likewise, by the policy that has its rule.
    """
    if out.suffix != ".toml":
        raise click.BadParameter(f"{out}: a config file in TOML ends in .toml.", param_hint="'--out'")

    from rich.progress import MofNCompleteColumn, TimeElapsedColumn

    from stopkit.cli.progress import progress_bar
    from stopkit.rule_file import written_policies
    from stopkit.spec import PYTHON_FILE
    from stopkit.trace.comparison import require_servable
    from stopkit.trace.nearest import nearest
    from stopkit.trace.scorers import scorers
    from stopkit.trace.space import space
    from stopkit.trace.tuning import Tuning, best_policy, done

    if ray and PYTHON_FILE.fullmatch(kind):
        raise click.UsageError(f"{kind}: a rule in a file stays on this machine; leave --ray out.")
    trace = opened(path, max_new_tokens, sequences)
    asked_for = written_policies(kind)
    require_servable(trace, asked_for)
    (policy,) = asked_for.values()
    choices = space(policy, [field.strip() for field in fields.split(",")] if fields else ())
    tuning = Tuning(trace, choices, costs_of(trace, **costs), held_out, seed)
    _ = tuning.parts  # what is wrong with the split is said before a study is begun
    shared, seeded = storage or f"sqlite:///{out.with_suffix('.study.db')}", storage is None
    study = tuning.study(shared, seeded)
    elsewhere: list[Nearest] = []
    try:
        pool = scorers(ray, tuning, workers) if ray else nullcontext()
        with pool as scores, progress_bar("searching", trials, MofNCompleteColumn(), TimeElapsedColumn()) as update:

            def tick(count: int, best: float, where: str = "") -> None:
                update(completed=count, description=f"{where}best {best:.3f}")

            tuning.run(study, trials, tick, scores)
            elsewhere.extend(  # one after another: what is done when it stops is there
                nearest(name, tuning, shared, seeded, trials, partial(tick, where=f"{name}: "), scores)
                for name in dict.fromkeys(servers)
            )
    finally:
        tuned = best_policy(tuning, study)
        if tuned is not None:
            _write(out, kind, tuned, tuning)
            _report(tuning, kind, out, tuned, done(study), elsewhere, json_file)


def _write(out: Path, kind: str, tuned: "StoppingPolicy", tuning: "Tuning") -> None:
    import tomli_w

    from stopkit.kinds import as_block, without_unset

    block = {"policy": without_unset(as_block(tuned))}
    comment = f"# Tuned by `stopkit tune` on {len(tuning.parts[0].sequences)} sequences of {tuning.trace.path}.\n"
    comment += "".join(f"# {line}\n" for line in _use(kind, tuned, tuning))
    save((out, lambda place: Path(place).write_text(comment + tomli_w.dumps(block), encoding="utf-8")))


def _use(kind: str, tuned: "StoppingPolicy", tuning: "Tuning") -> Iterator[str]:
    """How to use what was tuned, where a config cannot name it."""
    from shlex import quote

    from stopkit.kinds import as_block
    from stopkit.rule_file import with_fields
    from stopkit.spec import PYTHON_FILE
    from stopkit.trace.files import flat

    if PYTHON_FILE.fullmatch(kind):
        values = flat(as_block(tuned))
        text = with_fields(kind, {choice.name: values[choice.name] for choice in tuning.space.choices})
        yield f"No config can name a rule in a file; until a plug-in offers {tuned.kind}, use --policy {quote(text)}."


def _report(
    tuning: "Tuning",
    kind: str,
    out: Path,
    tuned: "StoppingPolicy",
    trials: int,
    elsewhere: "Sequence[Nearest]",
    json_file: str | None,
) -> None:
    """Tuned beside untuned, on the sequences that the search has not seen."""
    from stopkit.conditions import conditions
    from stopkit.kinds import as_block
    from stopkit.tables import REPLAY, console, standing_note, table, write_json
    from stopkit.trace.comparison import TraceComparison, with_control
    from stopkit.trace.tuning import gain, kept

    tuned_on, judged_by = tuning.parts
    both = {kind: tuning.space.policy, str(out): tuned, **{each.name: each.policy for each in elsewhere}}
    comparison = TraceComparison(judged_by, with_control(both), tuning.costs)
    replayed = dict(comparison.replays())
    rows, sure = comparison.rows(replayed), gain(replayed[str(out)], replayed[kind])
    keeps = {each.name: kept(replayed[each.name], replayed[str(out)]) for each in elsewhere}
    parts = (("held-out", judged_by), ("tuned-on", tuned_on))
    scores = {name: [tuning.score(policy, part) for policy in (tuning.space.policy, tuned)] for name, part in parts}
    defaults_win = scores["held-out"][1] < scores["held-out"][0]
    if json_file != "-":
        screen = console()
        screen.print(table(rows, REPLAY, "draft_cost", "verify_cost"))
        for name, part in parts:
            before, after = scores[name]
            screen.print(
                f"{len(part.sequences)} {name} sequences: speed-up {after:.3f} tuned, {before:.3f} before "
                f"({after / before - 1:+.1%}), geometric mean over the costs."
            )
        if sure:
            screen.print("Held out, the gain is {:+.1%} … {:+.1%} with 95%.".format(*(each - 1 for each in sure)))
        screen.print(standing_note(len(judged_by.sequences)))
        for field, reason in tuning.space.skipped.items():
            screen.print(f"Not searched: {field} {reason}.")
        if defaults_win:
            screen.print("The policy as it was wins on the held-out sequences: do not use the tuned one.")
        screen.print(f"Trials: {trials}. Wrote {out}.")
        for line in (
            *_use(kind, tuned, tuning),
            *chain.from_iterable(_told(each, *keeps[each.name]) for each in elsewhere),
        ):
            screen.print(line, soft_wrap=True)
    if json_file:
        asked = {
            "policy": {kind: as_block(tuning.space.policy), str(out): as_block(tuned)},
            "fields": [choice.name for choice in tuning.space.choices],
            "trials": trials,
            "defaults_win": defaults_win,
            "gain_interval": list(sure) if sure else None,
            "servers": {each.name: each.as_dict() | _kept(*keeps[each.name]) for each in elsewhere},
            "held_out": list(judged_by.sequences),
            "trace": {"path": tuning.trace.path, **tuning.trace.metadata.model_dump(mode="json")},
            "costs": [costs.model_dump() for costs in tuning.costs],
        }
        save((json_file, lambda place: write_json(place, conditions(**asked), rows)))


def _told(nearest: "Nearest", share: float | None, sure: "Interval | None") -> Iterator[str]:
    """The settings of a server, and what they keep."""
    from stopkit.trace.servers import SERVERS

    server = SERVERS[nearest.name]
    yield f"\nThe nearest settings of {nearest.name}, for {server.where}:"
    yield f"\n{nearest.text}\n"
    if share is None:
        yield "Held out, the tuned policy gains nothing over autoregressive decoding; there is nothing to keep."
    else:
        between = " ({:.1%} … {:.1%} with 95%)".format(*sure) if sure else ""
        yield f"Held out, they keep {share:.1%}{between} of what the tuned policy gains over autoregressive decoding."
    yield f"That is an approximation, by a policy of the same rule: {server.apart}."


def _kept(share: float | None, sure: "Interval | None") -> dict[str, Any]:
    return {"kept": share, "kept_interval": list(sure) if sure else None}
