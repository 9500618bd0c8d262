"""Pieces of the page: sections, figures with the numbers behind them, tables."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple


class Cell(NamedTuple):
    """A table's cell: what is shown, the exact value behind it, how strongly it is tinted (0 … 1), and its classes."""

    shown: str
    value: float | None = None
    tint: float | None = None
    style: str = ""


def exact(value: float, digits: int = 3, tint: float | None = None, style: str = "") -> Cell:
    """A number with as many digits as its neighbours above and below."""
    return Cell(f"{value:.{digits}f}".replace("-", "−"), value, tint, f"number {style}".strip())


def count(value: int) -> Cell:
    """A whole number."""
    return Cell(f"{value:,}", value, None, "number")


def html_table(head: Sequence[str], rows: Sequence[Sequence[str | Cell]], caption: str, name: str = "") -> str:
    """The first column names the rows. It scrolls sideways where it does not fit."""
    top = "".join(f'<th scope="col">{escape(title)}</th>' for title in head)
    body = "".join(f"<tr>{_row(row)}</tr>" for row in rows)
    label = f' id="{name}"' if name else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table{label}>'
        f"<caption>{escape(caption)}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(row: Sequence[str | Cell]) -> str:
    first, *others = [cell if isinstance(cell, Cell) else Cell(cell) for cell in row]
    return f'<th scope="row" class="{first.style}">{escape(first.shown)}</th>' + "".join(map(_cell, others))


def _cell(cell: Cell) -> str:
    value = "" if cell.value is None else f' data-value="{cell.value!r}"'
    tint = "" if cell.tint is None else f' style="--tint:{cell.tint:.3f}"'
    return f'<td class="{cell.style}"{value}{tint}>{escape(cell.shown)}</td>'


def behind(content: str, summary: str = "The numbers") -> str:
    """Folded away until it is asked for; printed all the same."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def figure(picture: str, caption: str, numbers: str = "", legend: str = "") -> str:
    """A picture, its legend, what it shows, and the table behind it. Only `caption` is escaped here."""
    folded = behind(numbers) if numbers else ""
    return f"<figure>{legend}{picture}<figcaption>{escape(caption)}</figcaption></figure>{folded}"


def panels(pictures: Sequence[tuple[str, str, str]]) -> str:
    """Small pictures side by side, each (heading, line below the heading, picture)."""
    each = (
        f'<div class="panel"><h3>{escape(heading)}</h3><p class="note">{escape(note)}</p>{picture}</div>'
        for heading, note, picture in pictures
    )
    return f'<div class="panels">{"".join(each)}</div>'


def legend(entries: Sequence[tuple[str, str]], style: str = "") -> str:
    """(Class of the mark, name)."""
    items = "".join(f'<li><span class="key {mark}"></span>{escape(name)}</li>' for mark, name in entries)
    return f'<ul class="legend {style}">{items}</ul>'


def section(name: str, title: str, lead: str, *content: str) -> str:
    """A part of the page, with a line on what it shows."""
    return (
        f'<section id="{name}" aria-labelledby="{name}-h"><h2 id="{name}-h">{escape(title)}</h2>'
        f'<p class="lead">{escape(lead)}</p>{"".join(content)}</section>'
    )


def facts(entries: Sequence[tuple[str, str, str]]) -> str:
    """A few large figures: (name, figure, remark)."""
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(remark)}</small></dd></div>"
        for name, value, remark in entries
    )
    return f'<dl class="facts">{items}</dl>'
