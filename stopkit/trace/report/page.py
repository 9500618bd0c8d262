"""The page: one file with everything in it. Nothing is fetched when it is opened."""

from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Any

from stopkit.trace.comparison import Tick
from stopkit.trace.report.acceptance import acceptance_section
from stopkit.trace.report.calibration import calibration_section
from stopkit.trace.report.conditions import conditions_section
from stopkit.trace.report.constants import constants_section
from stopkit.trace.report.html import facts
from stopkit.trace.report.learning import Movement, learning_section, learns, movements
from stopkit.trace.report.lengths import lengths_section
from stopkit.trace.report.prompts import prompts_section
from stopkit.trace.report.speed import speed_section
from stopkit.trace.report.study import CLAIRVOYANT, Study
from stopkit.trace.report.svg import short
from stopkit.trace.report.thresholds import sweeps, swept, thresholds_section

CONTENTS = {
    "speed": "Speed-up",
    "constants": "Constants",
    "prompts": "Prompts",
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
        speed_section(study),
        constants_section(study),
        prompts_section(study),
        lengths_section(study),
        acceptance_section(study),
        calibration_section(study),
        thresholds_section(study, swept_),
        learning_section(study, moved),
        conditions_section(study, conditions),
        "</main>",
    )
    style = (files("stopkit.trace.report") / "style.css").read_text(encoding="utf-8")
    title = escape(f"Trace report: {study.trace.tokens:,} tokens")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        "<meta name='generator' content='stopkit'>"
        f"<title>{title}</title><style>{style}</style></head><body>{''.join(body)}</body></html>\n"
    )


def heading(study: Study) -> str:
    """Title, subtitle and the figures that matter most."""
    trace, at = study.trace, study.reference
    cost, best = study.costs[at], study.ranking[0]
    here = max(study.policies, key=lambda name: study.speedups(name)[at])
    temperature = short(trace.metadata.sampling.temperature)
    entries = [
        ("recorded", f"{trace.tokens:,} tokens", f"{len(trace.sequences)} sequences, temperature {temperature}"),
        ("acceptance probability β", short(_first_beta(study), 3), "mean, of the first draft token"),
        (
            f"fastest at draft cost {short(cost.draft_cost, 3)}",
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


def _learners(study: Study) -> list[str]:
    return [name for name in study.ranking if learns(study.policies[name])]


def _contents() -> str:
    links = "".join(f'<li><a href="#{name}">{escape(title)}</a></li>' for name, title in CONTENTS.items())
    return f'<nav aria-label="Sections"><ul>{links}</ul></nav>'
