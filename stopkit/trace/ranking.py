"""`stopkit.replay`: policies on a recording in one call, best first."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from stopkit.errors import InputError, shown
from stopkit.policy import StoppingPolicy
from stopkit.spec import load_policy
from stopkit.tables import REPLAY, WIDTH, table
from stopkit.trace.comparison import Tick, TraceComparison, contestants
from stopkit.trace.costs import Numbers, asked_costs
from stopkit.trace.files import flat
from stopkit.trace.replay import Replay
from stopkit.trace.trace import Trace

Policies = StoppingPolicy | str | Mapping[str, Any] | Iterable[Any]
"""A policy as `load_policy` takes it, several, or several by the names that their rows are to have."""
COST_COLUMNS = ("draft_cost", "verify_cost")
"""What the parts of a table differ in."""


@dataclass(frozen=True)
class Ranking:
    """Policies on a recording, and the bounds below them, at each of the costs: what `stopkit.replay` returns."""

    comparison: TraceComparison
    rows: Sequence[dict[str, Any]]
    """A row for every pair of costs and policy, best first; below them the bounds."""
    left_out: Mapping[str, str]
    """Installed policies that the trace cannot serve, and why; empty where policies were named."""

    def table(self) -> str:
        """The rows as text."""
        screen = Console(file=StringIO(), width=WIDTH, highlight=False, markup=False, color_system=None)
        screen.print(table(self.rows, REPLAY, *COST_COLUMNS))
        lines = screen.file.getvalue().splitlines()  # type: ignore[attr-defined]
        return "\n".join(line.rstrip() for line in lines)

    def __str__(self) -> str:
        return self.table()

    def to_pandas(self) -> Any:
        """The rows as a pandas DataFrame. Raises InputError without pandas, which stopkit does not install."""
        try:
            from pandas import DataFrame
        except ImportError:
            raise InputError("to_pandas: pandas is not installed; `pip install pandas`, or use .rows.") from None
        return DataFrame(self.rows)


def replay(
    trace: str | Path | Trace,
    policies: Policies | None = None,
    *,
    draft_cost: Numbers | None = None,
    verify_cost: Numbers | None = None,
    measured_costs: bool = False,
    max_new_tokens: int | None = None,
    sequences: int | None = None,
    tick: Tick = lambda name, part: None,
) -> Ranking:
    """Replay `policies` on the recording `trace`, exactly, at every pair of costs, without its models.

    A policy is an object, a kind, `KIND:field=value` or a dict, and there may be one, several, or several by name;
    without any, all installed ones that the trace can serve, those made of others left out. `static:length=2` is always
    there for a control. Costs are in target-step times, a number or several: of a
    draft step (0.02, 0.05, 0.1, 0.2 and 0.4 unless given), and of a token to verify (0.02); or those that the recording
    measured. `max_new_tokens` and `sequences` take only so much of the trace.

    Raises InputError for what is wrong in any of these. Whatever stops a replay, an interrupt included, carries what is
    done in its `partial` attribute, if that is enough for a ranking.
    """
    opened = trace if isinstance(trace, Trace) else Trace.open(trace)
    part = opened.beginning(sequences, max_new_tokens)
    chosen, left_out = contestants(part, None if policies is None else named(policies))
    costs = asked_costs(part.metadata, part.path, draft_cost, verify_cost, measured_costs)
    comparison = TraceComparison(part, chosen, costs)
    done: dict[str, Sequence[Replay]] = {}
    try:
        done.update(comparison.replays(tick))  # one after another: what is done when it stops is there
    except BaseException as stopped:
        if "clairvoyant" in done:
            stopped.partial = Ranking(comparison, comparison.rows(done), left_out)  # type: ignore[attr-defined]
        raise
    return Ranking(comparison, comparison.rows(done), left_out)


def named(policies: Policies) -> dict[str, StoppingPolicy]:
    """Policies by the text that was given, or that would name them. Raises InputError if two have one name."""
    if isinstance(policies, Mapping) and "kind" not in policies:
        return {name: load_policy(spec, f"policies[{shown(name)}]") for name, spec in policies.items()}
    one = isinstance(policies, (StoppingPolicy, str, Mapping))
    found: dict[str, StoppingPolicy] = {}
    for number, spec in enumerate([policies] if one else policies):
        policy = load_policy(spec, f"policies[{number}]")
        name = spec if isinstance(spec, str) else label(policy)
        if found.setdefault(name, policy) != policy:
            raise InputError(f"policies[{number}]: another policy is called {name!r}, too; give a dict of names.")
    return found


def label(policy: StoppingPolicy) -> str:
    """A policy's kind, and those of its fields that are not the defaults, as on the command line."""
    changed = {name for name, _ in policy.__repr_args__()}
    values = {name: value for name, value in policy.model_dump(mode="json").items() if name in changed}
    fields = ",".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in flat(values).items())
    return f"{policy.kind}:{fields}" if fields else policy.kind
