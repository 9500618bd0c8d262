"""The head of the page and its last section: what was recorded, and under which conditions."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from stopkit.kinds import as_block
from stopkit.trace.report.html import facts, section, table
from stopkit.trace.report.study import CLAIRVOYANT, Study
from stopkit.trace.report.svg import number


def heading(study: Study) -> str:
    """Title, subtitle and the figures that matter most."""
    trace, at = study.trace, study.reference
    cost, best = study.costs[at], study.ranking[0]
    here = max(study.policies, key=lambda name: study.speedups(name)[at])
    temperature = number(trace.metadata.sampling.temperature)
    entries = [
        ("recorded", f"{trace.tokens:,} tokens", f"{len(trace.sequences)} sequences, temperature {temperature}"),
        ("acceptance probability β", number(_first_beta(study), 3), "mean, of the first draft token"),
        (
            f"fastest at draft cost {number(cost.draft_cost, 3)}",
            f"{study.speedups(here)[at]:.2f} ×",
            here,
        ),
        ("fastest on average", f"{study.reached(best):.1%}", f"{best}, of the {CLAIRVOYANT} bound"),
    ]
    return f'<header><p class="kicker">Trace report</p><h1>{_models(study)}</h1>{facts(entries)}</header>'


def _models(study: Study) -> str:
    target, draft = (escape(_model(model)) for model in (study.trace.metadata.target, study.trace.metadata.draft))
    return f'{draft} <span class="for">drafts for</span> {target}'


def _model(model: Mapping[str, Any]) -> str:
    """A model's name, without the folders of the machine that recorded."""
    return str(model["name"]).rstrip("/").rpartition("/")[2]


def _first_beta(study: Study) -> float:
    drafted = study.trace.drafted > 0
    return float(study.trace.columns["beta"][drafted, 0].double().mean()) if bool(drafted.any()) else 0.0


def about(study: Study, conditions: Mapping[str, Any]) -> str:
    """The section."""
    lead = "A number never stands without its conditions: these hold for every number on this page."
    metadata = study.trace.metadata.model_dump(mode="json")
    costs = [[f"{number(cost.draft_cost, 4)}", f"{number(cost.verify_cost, 4)}"] for cost in study.costs]
    policies = [[name, f"{policy.kind}: {_fields(as_block(policy))}"] for name, policy in study.policies.items()]
    return section(
        "conditions",
        "Conditions",
        lead,
        table(["recording", "value"], [[name, value] for name, value in _flat(metadata)], "How the trace was recorded"),
        table(["report", "value"], [[name, value] for name, value in _flat(conditions)], "How this page was made"),
        table(["draft cost", "verify cost"], costs, "Costs, in target-step times: of a draft step, of a block token"),
        table(["policy", "fields"], policies, "What each policy was"),
    )


def _fields(block: Mapping[str, Any]) -> str:
    fields = {name.replace(" ", "_"): value for name, value in _flat(block)}
    return ", ".join(f"{name} = {value}" for name, value in fields.items() if name != "kind")


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Leaves by dotted name; what is unset is left out."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None and value != []:
            yield f"{prefix}{name}".replace("_", " "), str(value)
