"""Plots as SVG that styles itself by the page's style sheet: no colours, fonts or scripts of its own."""

import math
from collections.abc import Callable, Sequence
from html import escape
from itertools import count

Points = Sequence[tuple[float, float]]
_ids = count(1)


def short(value: float, digits: int = 2) -> str:
    """Short, with a proper minus sign."""
    return f"{value:.{digits}f}".rstrip("0").rstrip(".").replace("-", "−") if digits else f"{value:.0f}"


def ticks(low: float, high: float, most: int = 6, whole: bool = False) -> list[float]:
    """Round numbers from `low` up to `high`, about `most`; whole ones if asked for."""
    span = (high - low) or 1.0
    raw = span / most
    raw = max(1.0, raw) if whole else raw
    unit = 10 ** math.floor(math.log10(raw))
    steps = (1, 2, 5, 10) if whole else (1, 2, 2.5, 5, 10)
    step = next(unit * factor for factor in steps if unit * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 10) for index in range(first, math.floor(high / step + 1e-9) + 1)]


class Plot:
    """One plot of `width` × `height` user units, with room around it for axes: (top, right, bottom, left)."""

    def __init__(
        self,
        width: float,
        height: float,
        x: tuple[float, float],
        y: tuple[float, float],
        room: tuple[float, float, float, float] = (12, 12, 34, 40),
        log_x: bool = False,
    ) -> None:
        self.width, self.height = width, height
        self.top, right, bottom, self.left = room
        self.right, self.bottom = width - right, height - bottom
        self._log = log_x
        self._x, self._y = (_safe(*map(self._scaled, x))), _safe(*y)
        self._parts: list[str] = []

    def _scaled(self, value: float) -> float:
        return math.log(value) if self._log else value

    def x(self, value: float) -> float:
        """The place of `value` on the page."""
        low, high = self._x
        return self.left + (self._scaled(value) - low) / (high - low) * (self.right - self.left)

    def y(self, value: float) -> float:
        """The place of `value` on the page."""
        low, high = self._y
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)

    def add(self, element: str) -> None:
        """Draw `element`, which is SVG in the units of the page."""
        self._parts.append(element)

    def axes(
        self,
        x_ticks: Sequence[float],
        y_ticks: Sequence[float],
        x_title: str = "",
        y_title: str = "",
        x_form: Callable[[float], str] = short,
        y_form: Callable[[float], str] = short,
    ) -> None:
        """Horizontal rules with their numbers, ticks below, titles. Titles are left out if empty."""
        for value in y_ticks:
            at = self.y(value)
            self.add(f'<path class="rule" d="M{_n(self.left)} {_n(at)}H{_n(self.right)}"/>')
            self.text(self.left - 7, at + 4, y_form(value), "tick end")
        self.add(f'<path class="axis" d="M{_n(self.left)} {_n(self.bottom)}H{_n(self.right)}"/>')
        for value in x_ticks:
            at = self.x(value)
            self.add(f'<path class="axis" d="M{_n(at)} {_n(self.bottom)}v4"/>')
            self.text(at, self.bottom + 17, x_form(value), "tick middle")
        if x_title:
            self.text((self.left + self.right) / 2, self.bottom + 33, x_title, "title middle")
        if y_title:
            self.text(0, self.top - 10, y_title, "title")

    def text(self, x: float, y: float, content: str, style: str = "") -> None:
        """`style` are classes: start, middle or end, and others of the style sheet."""
        self.add(f'<text x="{_n(x)}" y="{_n(y)}" class="{style}">{escape(content)}</text>')

    def line(self, points: Points, style: str, title: str = "") -> None:
        """A line through `points`; `told` is shown when it is pointed at."""
        way = "L".join(f"{_n(self.x(x))} {_n(self.y(y))}" for x, y in points)
        self.add(f'<path class="line {style}" d="M{way}">{_title(title)}</path>')

    def area(self, upper: Points, lower: Points, style: str, title: str = "") -> None:
        """What lies between two lines."""
        way = "L".join(f"{_n(self.x(x))} {_n(self.y(y))}" for x, y in [*upper, *reversed(lower)])
        self.add(f'<path class="area {style}" d="M{way}Z">{_title(title)}</path>')

    def dot(self, x: float, y: float, style: str, title: str = "", radius: float = 3.5) -> None:
        """Draw a point."""
        place = f'cx="{_n(self.x(x))}" cy="{_n(self.y(y))}" r="{_n(radius)}"'
        self.add(f'<circle class="dot {style}" {place}>{_title(title)}</circle>')

    def whisker(self, x: float, low: float, high: float, style: str) -> None:
        """Draw the interval from `low` to `high` at `x`."""
        self.add(f'<path class="whisker {style}" d="M{_n(self.x(x))} {_n(self.y(low))}V{_n(self.y(high))}"/>')

    def seam(self, x: float, title: str) -> None:
        """Draw a vertical rule over the whole height."""
        self.add(f'<path class="seam" d="M{_n(self.x(x))} {_n(self.top)}V{_n(self.bottom)}">{_title(title)}</path>')

    def bar(self, x: float, wide: float, value: float, style: str, title: str = "") -> None:
        """A bar from 0 up to `value`, its left edge at `x`, `wide` in units of x."""
        left, top, base = self.x(x), self.y(value), self.y(max(0.0, self._y[0]))
        size = f'x="{_n(left)}" y="{_n(top)}" width="{_n(self.x(x + wide) - left)}" height="{_n(base - top)}"'
        self.add(f'<rect class="bar {style}" {size}>{_title(title)}</rect>')

    def group(self, style: str, draw: Callable[[], None]) -> None:
        """What `draw` adds, as one group."""
        self.add(f'<g class="{style}">')
        draw()
        self.add("</g>")

    def end_labels(self, labels: Sequence[tuple[float, str, str]], at: float, gap: float = 15) -> None:
        """Names (y value, text, style) at the right of their lines, moved apart where they would touch."""
        placed = sorted(((self.y(value), text, style) for value, text, style in labels), key=lambda label: label[0])
        heights = spread([place for place, _, _ in placed], gap, self.top + 4, self.bottom)
        for (place, text, style), height in zip(placed, heights, strict=True):
            self.add(f'<path class="leader" d="M{_n(self.x(at) + 5)} {_n(place)}L{_n(self.x(at) + 17)} {_n(height)}"/>')
            self.text(self.x(at) + 21, height + 4, text, f"label {style}")

    def svg(self, title: str, description: str, style: str = "") -> str:
        """The picture; readers that show no pictures say `title` and `description`."""
        name = f"plot-{next(_ids)}"
        return (
            f'<svg class="plot {style}" viewBox="0 0 {_n(self.width)} {_n(self.height)}" role="img" '
            f'aria-labelledby="{name}-t {name}-d"><title id="{name}-t">{escape(title)}</title>'
            f'<desc id="{name}-d">{escape(description)}</desc>{"".join(self._parts)}</svg>'
        )


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Sorted `places`, moved as little as needed for `gap` between neighbours, within `low` … `high` if they fit."""
    groups: list[tuple[float, int]] = []  # middle and size
    for place in places:
        middle, size = place, 1
        while groups and middle - groups[-1][0] < gap * (size + groups[-1][1]) / 2:
            other, more = groups.pop()
            middle, size = (middle * size + other * more) / (size + more), size + more
            half = gap * (size - 1) / 2
            middle = min(max(middle, low + half), max(high - half, low + half))
        groups.append((middle, size))
    return [middle + gap * (index - (size - 1) / 2) for middle, size in groups for index in range(size)]


def _safe(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _title(title: str) -> str:
    return f"<title>{escape(title)}</title>" if title else ""
