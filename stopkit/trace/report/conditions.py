"""The head of the page and its last section: what was recorded, and under which conditions."""

from collections.abc import Mapping
from typing import Any

from stopkit.kinds import as_block
from stopkit.trace.files import flat
from stopkit.trace.report.html import html_table, section
from stopkit.trace.report.study import Study
from stopkit.trace.report.svg import short


def conditions_section(study: Study, conditions: Mapping[str, Any]) -> str:
    """List the conditions of every number on the page, as HTML."""
    lead = "A number never stands without its conditions: these hold for every number on this page."
    metadata = study.trace.metadata.model_dump(mode="json")
    costs = [[f"{short(cost.draft_cost, 4)}", f"{short(cost.verify_cost, 4)}"] for cost in study.costs]
    policies = [[name, f"{policy.kind}: {_fields(as_block(policy))}"] for name, policy in study.policies.items()]
    return section(
        "conditions",
        "Conditions",
        lead,
        html_table(["recording", "value"], _leaves(metadata), "How the trace was recorded"),
        html_table(["report", "value"], _leaves(conditions), "How this page was made"),
        html_table(
            ["draft cost", "verify cost"], costs, "Costs, in target-step times: of a draft step, of a block token"
        ),
        html_table(["policy", "fields"], policies, "What each policy was"),
    )


def _fields(block: Mapping[str, Any]) -> str:
    fields = {name.replace(" ", "_"): value for name, value in _leaves(block)}
    return ", ".join(f"{name} = {value}" for name, value in fields.items() if name != "kind")


def _leaves(tree: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is set, by dotted name with spaces, as text."""
    return [(name.replace("_", " "), str(value)) for name, value in flat(tree).items() if value not in (None, [])]
