"""The page: one file with everything in it. Nothing is fetched when it is opened."""

from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Any

from stopkit.trace.comparison import Tick
from stopkit.trace.report.about import about, heading
from stopkit.trace.report.acceptance import acceptance
from stopkit.trace.report.learned import Movement, learns, movements
from stopkit.trace.report.lengths import lengths
from stopkit.trace.report.scores import scores
from stopkit.trace.report.sensitivity import sweeps, swept
from stopkit.trace.report.speed import speed
from stopkit.trace.report.states import states
from stopkit.trace.report.study import Study
from stopkit.trace.report.thresholds import thresholds

CONTENTS = {
    "speed": "Speed-up",
    "lengths": "Lengths",
    "acceptance": "Acceptance",
    "calibration": "Calibration",
    "thresholds": "Thresholds",
    "learning": "Learning",
    "conditions": "Conditions",
}
"""Sections, by the ids that links lead to."""


def steps(study: Study) -> int:
    """Parts that `page` ticks off."""
    return len(swept(study)) + len(_learners(study))


def page(study: Study, conditions: Mapping[str, Any], tick: Tick = lambda name, part: None) -> str:
    """The whole page as HTML."""
    swept_ = sweeps(study, tick)
    moved: list[Movement] = []
    for name in _learners(study):
        moved += movements(study.trace, name, study.policies[name], study.costs[study.reference])
        tick(f"{name}'s state", 1.0)
    body = (
        heading(study),
        _contents(),
        "<main>",
        speed(study),
        lengths(study),
        acceptance(study),
        scores(study),
        thresholds(study, swept_),
        states(study, moved),
        about(study, conditions),
        "</main>",
    )
    style = (files("stopkit.trace.report") / "style.css").read_text(encoding="utf-8")
    title = escape(f"Trace report: {study.trace.tokens:,} tokens")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{title}</title><style>{style}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _learners(study: Study) -> list[str]:
    return [name for name in study.ranking if learns(study.policies[name])]


def _contents() -> str:
    links = "".join(f'<li><a href="#{name}">{escape(title)}</a></li>' for name, title in CONTENTS.items())
    return f'<nav aria-label="Sections"><ul>{links}</ul></nav>'
