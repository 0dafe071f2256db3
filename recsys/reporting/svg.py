"""Small charts as SVG text: the same input, the same bytes, and colours that follow the page.

Elements carry classes only; ``STYLE`` gives the classes their colours for a light and a dark page.
A chart is drawn 380 units wide, about as wide as a phone, so that its text stays readable there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 380, 240
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 34, 38
STYLE = """
.chart{font-family:system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;font-size:11px;
--c-text:#5b6169;--c-grid:#e4e1da;--c-strong:#22262b;--s0:#1f5f99;--s1:#9a9fa6;--s2:#c5841c;
--s3:#4e8a5b;--s4:#8a5a9e}
@media (prefers-color-scheme:dark){.chart{--c-text:#a4abb3;--c-grid:#343a41;--c-strong:#eceae4;
--s0:#6cb0ea;--s1:#7d858e;--s2:#e3ab4f;--s3:#7dbd8b;--s4:#c296d6}}
.chart text{fill:var(--c-text)}.chart .small{font-size:9px}
.chart .strong{fill:var(--c-strong);font-weight:600}
.chart .grid{stroke:var(--c-grid);stroke-width:1}.chart .axis{stroke:var(--c-text);stroke-width:1}
.chart .whisker{stroke:var(--c-strong);stroke-width:1.2;fill:none}
.chart .best{stroke:var(--c-strong);stroke-width:1;stroke-dasharray:3 3}
.chart .line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.chart .area{fill-opacity:.32;stroke-width:1.5}
.chart .f0{fill:var(--s0)}.chart .f1{fill:var(--s1)}.chart .f2{fill:var(--s2)}
.chart .f3{fill:var(--s3)}.chart .f4{fill:var(--s4)}
.chart .l0{stroke:var(--s0)}.chart .l1{stroke:var(--s1)}.chart .l2{stroke:var(--s2)}
.chart .l3{stroke:var(--s3)}.chart .l4{stroke:var(--s4)}
"""
N_COLOURS = 5


@dataclass(frozen=True)
class Line:
    """A named line through (x, y); a y of None leaves a gap."""

    name: str
    points: tuple[tuple[float, float | None], ...]


@dataclass(frozen=True)
class Bars:
    """A named row of bars, one a group: (value, low, high), each None where not known."""

    name: str
    values: tuple[tuple[float | None, float | None, float | None], ...]


@dataclass(frozen=True)
class Steps:
    """A named histogram: ``heights`` one shorter than ``edges``."""

    name: str
    edges: tuple[float, ...]
    heights: tuple[float, ...]


def line_chart(
    title: str, lines: Sequence[Line], *, x_label: str, marked: tuple[float, str] | None = None
) -> str:
    """Lines over a number such as the epoch; ``marked`` draws a labelled vertical at an x."""
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points if y is not None]
    plane = _Plane(min(xs), max(xs), *_padded(min(ys), max(ys)))
    parts = [legend([line.name for line in lines]), *plane.y_axis(), _axis_title(x_label)]
    parts += [plane.x_tick(x, tick_text(x)) for x in _whole_ticks(plane.x_low, plane.x_high)]
    if marked is not None:
        parts += _mark(plane, lines, *marked)
    for colour, line in enumerate(lines):
        parts += _line(plane, line, colour % N_COLOURS)
    return chart(title, parts)


def bar_chart(
    title: str, groups: Sequence[str], rows: Sequence[Bars], *, x_label: str = "", reach: float = 0
) -> str:
    """Bars from zero, grouped, with whiskers from low to high; the scale goes at least to reach."""
    tops = [reach]
    tops += [v for row in rows for cell in row.values for v in cell if v is not None]
    plane = _Plane(0, len(groups), min(0.0, *tops), 1.06 * max([*tops, 1e-9]))
    parts = [legend([row.name for row in rows]), *plane.y_axis(), _axis_title(x_label)]
    width = 0.76 / max(len(rows), 1)
    for group, label in enumerate(groups):
        css = "small" if len(groups) > 6 else ""
        parts.append(text_at(plane.x(group + 0.5), _FLOOR + 14, label, "middle", css))
        for colour, row in enumerate(rows):
            x = plane.x(group + 0.12 + width * colour)
            wide = plane.x(width) - plane.x(0)
            name = f"{row.name}, {label}"
            parts += _bar(plane, name, row.values[group], (x, wide), colour % N_COLOURS)
    return chart(title, parts)


def step_chart(title: str, rows: Sequence[Steps], *, x_label: str) -> str:
    """Histograms over each other."""
    edges = [edge for row in rows for edge in row.edges]
    highest = max(height for row in rows for height in row.heights)
    plane = _Plane(min(edges), max(edges), 0, 1.06 * highest or 1)
    parts = [legend([row.name for row in rows]), *plane.y_axis(), _axis_title(x_label)]
    parts += [plane.x_tick(x, tick_text(x)) for x in round_ticks(plane.x_low, plane.x_high, 5)]
    for colour, row in enumerate(rows):
        path = [f"M{plane.x(row.edges[0]):.1f} {plane.y(0):.1f}"]
        for low, high, height in zip(row.edges[:-1], row.edges[1:], row.heights, strict=True):
            y = plane.y(height)
            path.append(f"L{plane.x(low):.1f} {y:.1f}L{plane.x(high):.1f} {y:.1f}")
        path.append(f"L{plane.x(row.edges[-1]):.1f} {plane.y(0):.1f}Z")
        parts.append(f'<path class="area f{colour} l{colour}" d="{"".join(path)}"/>')
    return chart(title, parts)


def standalone(svg: str) -> str:
    """A chart as a file of its own, its style within."""
    head, tail = svg.split(">", 1)
    return f"{head}><style>{STYLE}</style>{tail}\n"


_FLOOR = HEIGHT - BOTTOM


@dataclass(frozen=True)
class _Plane:
    """Where values lie on the page."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        span = self.x_high - self.x_low
        share = (value - self.x_low) / span if span else 0.5
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return _FLOOR - (value - self.y_low) / (self.y_high - self.y_low) * (_FLOOR - TOP)

    def y_axis(self) -> list[str]:
        parts = []
        ticks = round_ticks(self.y_low, self.y_high, 4)
        for tick in ticks:
            y = self.y(tick)
            parts.append(
                f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            )
            parts.append(text_at(LEFT - 6, y + 3.5, tick_text(tick), "end"))
        return parts

    def x_tick(self, value: float, label: str) -> str:
        return text_at(self.x(value), _FLOOR + 14, label, "middle")


def _mark(plane: _Plane, lines: Sequence[Line], at: float, label: str) -> list[str]:
    """A vertical, its label where the first line is not."""
    x, y = plane.x(at), dict(lines[0].points).get(at)
    is_high = y is not None and plane.y(y) < (TOP + _FLOOR) / 2
    side, anchor = (-4, "end") if x > WIDTH - 90 else (4, "start")
    return [
        f'<line class="best" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{_FLOOR}"/>',
        text_at(x + side, _FLOOR - 6 if is_high else TOP + 9, label, anchor, "strong"),
    ]


def _line(plane: _Plane, line: Line, colour: int) -> list[str]:
    pieces: list[list[str]] = [[]]
    dots = []
    for x, y in line.points:
        if y is None:
            pieces.append([])
            continue
        place = f"{plane.x(x):.1f} {plane.y(y):.1f}"
        pieces[-1].append(place)
        label = escape(f"{line.name}, {tick_text(x)}: {y:.4g}")
        cx, cy = place.split()
        dots.append(
            f'<circle class="f{colour}" cx="{cx}" cy="{cy}" r="2.6"><title>{label}</title></circle>'
        )
    paths = [
        f'<path class="line l{colour}" d="M{"L".join(piece)}"/>'
        for piece in pieces
        if len(piece) > 1
    ]
    return paths + dots


def _bar(
    plane: _Plane,
    name: str,
    value: tuple[float | None, float | None, float | None],
    place: tuple[float, float],
    colour: int,
) -> list[str]:
    mean, low, high = value
    if mean is None:
        return []
    x, width = place
    top, bottom = sorted((plane.y(mean), plane.y(0)))
    label = escape(f"{name}: {mean:.4g}")
    parts = [
        f'<rect class="f{colour}" x="{x + 0.6:.1f}" y="{top:.1f}" width="{width - 1.2:.1f}" '
        f'height="{bottom - top:.1f}" rx="1"><title>{label}</title></rect>'
    ]
    if low is not None and high is not None:
        middle, cap = x + width / 2, min(3.0, width / 3)
        y_low, y_high = plane.y(low), plane.y(high)
        parts.append(
            f'<path class="whisker" d="M{middle:.1f} {y_low:.1f}V{y_high:.1f}'
            f"M{middle - cap:.1f} {y_high:.1f}h{2 * cap:.1f}"
            f'M{middle - cap:.1f} {y_low:.1f}h{2 * cap:.1f}"/>'
        )
    return parts


def chart(title: str, parts: Sequence[str], *, height: float = HEIGHT) -> str:
    """The parts as one drawing; empty parts are left out."""
    body = "".join(part for part in parts if part)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {WIDTH} {height}" '
        f'role="img" aria-label="{escape(title)}">{body}</svg>'
    )


def legend(names: Sequence[str]) -> str:
    """Names in a row at the top, each beside its colour."""
    parts, x = [], float(LEFT)
    for colour, name in enumerate(names):
        parts.append(
            f'<rect class="f{colour % N_COLOURS}" x="{x:.1f}" y="9" width="9" height="9" rx="2"/>'
        )
        parts.append(text_at(x + 13, 17, name, "start"))
        x += 26 + 5.9 * len(name)
    return "".join(parts)


def _axis_title(label: str) -> str:
    middle = (LEFT + WIDTH - RIGHT) / 2
    return text_at(middle, HEIGHT - 6, label, "middle") if label else ""


def text_at(x: float, y: float, text: str, anchor: str, css: str = "") -> str:
    """A line of text; ``anchor`` says which end of it, or its middle, stands at x."""
    kind = f' class="{css}"' if css else ""
    return f'<text{kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def round_ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers within the range."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def _whole_ticks(low: float, high: float) -> list[float]:
    """Whole numbers within the range, at most about ten."""
    step = max(1, math.ceil((high - low) / 9))
    return [float(x) for x in range(math.ceil(low), math.floor(high) + 1, step)]


def tick_text(value: float) -> str:
    """A number beside an axis."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
