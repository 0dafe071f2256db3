"""The static charts: lines, bars, histograms, marks, shares and differences, each an ``<svg>``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from recsys.reporting.record import Value
from recsys.reporting.svg import (
    FLOOR,
    HEIGHT,
    N_COLOURS,
    RIGHT,
    TOP,
    WIDTH,
    Plane,
    chart,
    circle,
    legend,
    log_ticks,
    padded,
    plot,
    round_ticks,
    text_at,
    tick_text,
    whole_ticks,
)

_CHARACTER = 5.9  # units wide, at most
_BEST = 3  # the colour of the best so far


@dataclass(frozen=True)
class Line:
    """A named line through (x, y); a y of None leaves a gap."""

    name: str
    points: tuple[tuple[float, float | None], ...]


@dataclass(frozen=True)
class Point:
    """A mark at (x, y); ``group`` picks its colour, ``name`` shows when it is pointed at."""

    x: float
    y: float
    name: str
    group: int = 0


@dataclass(frozen=True)
class Axis:
    """What stands along the bottom: numbers, evenly or by their logarithm, or named places."""

    label: str
    log: bool = False
    names: tuple[str, ...] = ()


def line_chart(
    title: str, lines: Sequence[Line], *, x_label: str, marked: tuple[float, str] | None = None
) -> str:
    """Lines over a number such as the epoch; ``marked`` draws a labelled vertical at an x."""
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points if y is not None]
    plane = Plane(min(xs), max(xs), *padded(min(ys), max(ys)))
    marks = [] if marked is None else _mark(plane, lines, *marked)
    for colour, line in enumerate(lines):
        marks += _line(plane, line, colour % N_COLOURS)
    ticks = [(x, tick_text(x)) for x in whole_ticks(plane.x_low, plane.x_high)]
    return plot(title, plane, [line.name for line in lines], x_label, ticks, marks)


def bar_chart(
    title: str,
    groups: Sequence[str],
    rows: Mapping[str, Sequence[Value]],
    *,
    x_label: str = "",
    reach: float = 0,
) -> str:
    """Bars from zero with whiskers; the scale goes at least to reach.

    Args:
        title: of the chart.
        groups: what stands along the bottom.
        rows: a value a group, by name.
        x_label: what the groups are.
        reach: the scale goes at least so far.
    """
    tops = [reach, *(v for row in rows.values() for cell in row for v in cell if v is not None)]
    plane = Plane(0, len(groups), min(0.0, *tops), 1.06 * max([*tops, 1e-9]))
    width = 0.76 / max(len(rows), 1)
    wide = plane.x(width) - plane.x(0)
    marks = []
    for group, label in enumerate(groups):
        for colour, (name, row) in enumerate(rows.items()):
            place = plane.x(group + 0.12 + width * colour), wide
            marks += _bar(plane, f"{name}, {label}", row[group], place, colour % N_COLOURS)
    labels = [(group + 0.5, label) for group, label in enumerate(groups)]
    return plot(title, plane, [*rows], x_label, labels, marks, is_small=len(groups) > 6)


def step_chart(
    title: str, rows: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, x_label: str
) -> str:
    """Histograms over each other: edges by name, and heights, one fewer."""
    ends = [edges[place] for edges, _ in rows.values() for place in (0, -1)]
    highest = max(height for _, heights in rows.values() for height in heights)
    plane = Plane(min(ends), max(ends), 0, 1.06 * highest or 1)
    marks = []
    for colour, (edges, heights) in enumerate(rows.values()):
        path = [f"M{plane.x(edges[0]):.1f} {plane.y(0):.1f}"]
        for low, high, height in zip(edges[:-1], edges[1:], heights, strict=True):
            y = plane.y(height)
            path.append(f"L{plane.x(low):.1f} {y:.1f}L{plane.x(high):.1f} {y:.1f}")
        path.append(f"L{plane.x(edges[-1]):.1f} {plane.y(0):.1f}Z")
        marks.append(f'<path class="area f{colour} l{colour}" d="{"".join(path)}"/>')
    ticks = [(x, tick_text(x)) for x in round_ticks(plane.x_low, plane.x_high, 5)]
    return plot(title, plane, [*rows], x_label, ticks, marks)


def scatter_chart(
    title: str,
    points: Sequence[Point],
    axis: Axis,
    *,
    groups: Mapping[int, str],
    best: Sequence[tuple[float, float]] = (),
    levels: Sequence[tuple[str, float]] = (),
) -> str:
    """Marks in a plane, ``groups`` naming their colours.

    ``best`` adds a line, "best so far", that keeps each value until the next, ``levels`` dashed
    lines from side to side with their names over them.
    """
    scaled: Callable[[float], float] = math.log10 if axis.log else float
    xs = [scaled(x) for x in [*(p.x for p in points), *(x for x, _ in best)]]
    ys = [*(point.y for point in points), *(y for _, y in best), *(y for _, y in levels)]
    ends = (-0.5, len(axis.names) - 0.5) if axis.names else padded(min(xs), max(xs), 0.03)
    plane = Plane(*ends, *padded(min(ys), max(ys)))
    names, marks = dict(groups), _levels(plane, levels)
    if best:
        names[_BEST] = "best so far"
        (x, y), *rest = [(plane.x(scaled(x)), plane.y(y)) for x, y in best]
        drawn = f"M{x:.1f} {y:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in rest)
        marks.append(f'<path class="line l{_BEST}" d="{drawn}"/>')
    for point in points:
        x, y = plane.x(scaled(point.x)), plane.y(point.y)
        marks.append(circle(x, y, 3, point.group, point.name, ' fill-opacity=".8"'))
    is_small = len(axis.names) > 4
    return plot(title, plane, names, axis.label, _labels(plane, axis), marks, is_small=is_small)


def _levels(plane: Plane, levels: Sequence[tuple[str, float]]) -> list[str]:
    """Dashed lines; each name stands right of the one before, so that none covers another."""
    parts, x = [], plane.x(plane.x_low) + 4
    ends = f'x1="{plane.x(plane.x_low):.1f}" x2="{plane.x(plane.x_high):.1f}"'
    for name, value in levels:
        y = plane.y(value)
        line = f'<line class="axis" {ends} y1="{y:.1f}" y2="{y:.1f}" stroke-dasharray="5 4"/>'
        parts += [line, text_at(x, y - 3, name, "start", "small")]
        x += _CHARACTER * (len(name) + 1)
    return parts


def share_chart(title: str, shares: Sequence[tuple[str, float]]) -> str:
    """Bars from left to right, each under its name, the number at its end."""
    height, room = min(44.0, (HEIGHT - 8) / max(len(shares), 1)), WIDTH - 2 * RIGHT - 34
    largest = max(max((share for _, share in shares), default=0.0), 1e-9)
    parts = []
    for index, (name, share) in enumerate(shares):
        y, wide = 6 + height * index, max(1.0, room * share / largest)
        parts.append(text_at(RIGHT, y + 10, name, "start"))
        parts.append(
            f'<rect class="f0" x="{RIGHT}" y="{y + 14:.1f}" width="{wide:.1f}" height="9" rx="2"/>'
        )
        parts.append(text_at(RIGHT + wide + 5, y + 22, f"{share:.2f}", "start", "strong"))
    return chart(title, parts)


def difference_chart(title: str, rows: Mapping[str, Mapping[str, Value]], *, x_label: str) -> str:
    """Dots with whiskers around a line at zero: by series, in colours, by group, downwards."""
    groups = list(dict.fromkeys(group for row in rows.values() for group in row))
    ends = [v for row in rows.values() for cell in row.values() for v in cell if v is not None]
    low, high = min(0.0, *ends, 0.0), max(0.0, *ends, 0.0)
    margin = 0.06 * (high - low) or 1.0
    height = 22 + 10 * (len(rows) - 1)
    top = 30 if len(rows) > 1 else 10
    floor = top + height * len(groups)
    plane = Plane(low - margin, high + margin, 0, 1, left=124, right=14)
    parts = [legend([*rows])] if len(rows) > 1 else []
    for tick in round_ticks(plane.x_low, plane.x_high, 5):
        x, css = plane.x(tick), "axis" if tick == 0 else "grid"
        parts.append(
            f'<line class="{css}" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 4}" y2="{floor:.1f}"/>'
        )
        parts.append(text_at(x, floor + 14, tick_text(tick), "middle"))
    most = int((plane.left - 10) / _CHARACTER)
    for index, group in enumerate(groups):
        middle = top + height * (index + 0.5)
        parts.append(text_at(plane.left - 8, middle + 3.5, shortened(group, most), "end"))
        for colour, (series, row) in enumerate(rows.items()):
            y = middle + 10 * (colour - (len(rows) - 1) / 2)
            name = f"{series}, {group}"
            parts += _dot(plane, name, row.get(group, Value()), y, colour % N_COLOURS)
    parts.append(text_at((plane.left + WIDTH - plane.right) / 2, floor + 32, x_label, "middle"))
    return chart(title, parts, height=floor + 40)


def shortened(text: str, letters: int) -> str:
    """The text, its end cut off where it is longer than so many letters."""
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def last_part(name: str) -> str:
    """What follows the last dot of a dotted name; other text as it is."""
    return name.rpartition(".")[2] if name.replace(".", "").isidentifier() else name


def _mark(plane: Plane, lines: Sequence[Line], at: float, label: str) -> list[str]:
    """A vertical, its label where the first line is not."""
    x, y = plane.x(at), dict(lines[0].points).get(at)
    is_high = y is not None and plane.y(y) < (TOP + FLOOR) / 2
    side, anchor = (-4, "end") if x > WIDTH - 90 else (4, "start")
    return [
        f'<line class="best" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{FLOOR}"/>',
        text_at(x + side, FLOOR - 6 if is_high else TOP + 9, label, anchor, "strong"),
    ]


def _line(plane: Plane, line: Line, colour: int) -> list[str]:
    pieces: list[list[str]] = [[]]
    dots = []
    for x, y in line.points:
        if y is None:
            pieces.append([])
            continue
        across, up = plane.x(x), plane.y(y)
        pieces[-1].append(f"{across:.1f} {up:.1f}")
        dots.append(circle(across, up, 2.6, colour, f"{line.name}, {tick_text(x)}: {y:.4g}"))
    paths = [
        f'<path class="line l{colour}" d="M{"L".join(piece)}"/>'
        for piece in pieces
        if len(piece) > 1
    ]
    return paths + dots


def _bar(
    plane: Plane, name: str, value: Value, place: tuple[float, float], colour: int
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


def _dot(plane: Plane, name: str, value: Value, y: float, colour: int) -> list[str]:
    mean, low, high = value
    if mean is None:
        return []
    parts = []
    if low is not None and high is not None:
        left, right = plane.x(low), plane.x(high)
        parts.append(
            f'<path class="whisker" d="M{left:.1f} {y:.1f}H{right:.1f}'
            f'M{left:.1f} {y - 3:.1f}v6M{right:.1f} {y - 3:.1f}v6"/>'
        )
    return [*parts, circle(plane.x(mean), y, 4, colour, f"{name}: {mean:+.4g}")]


def _labels(plane: Plane, axis: Axis) -> list[tuple[float, str]]:
    """What stands along the bottom, by its place in the plane."""
    if axis.names:
        room = max(4, 60 // len(axis.names))
        return [(place, shortened(last_part(name), room)) for place, name in enumerate(axis.names)]
    ticks = (log_ticks if axis.log else round_ticks)(plane.x_low, plane.x_high, 5)
    return [(math.log10(tick) if axis.log else tick, tick_text(tick)) for tick in ticks]
