"""Differences with their intervals as a chart: one row a difference, zero in the middle of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from recsys.reporting.svg import (
    N_COLOURS,
    WIDTH,
    chart,
    legend,
    round_ticks,
    text_at,
    tick_text,
)

_LEFT, _RIGHT, _TOP, _ROW, _FOOT = 124, 14, 30, 22, 40
_CHARACTER = 5.9  # units wide, at most


@dataclass(frozen=True)
class Deviation:
    """A difference to draw; all numbers None where it is not known.

    Attributes:
        group: row label.
        series: which colour.
        value: the difference.
        low: lower end of its interval.
        high: upper end.
    """

    group: str
    series: str
    value: float | None
    low: float | None
    high: float | None


def difference_chart(title: str, deviations: Sequence[Deviation], *, x_label: str) -> str:
    """Dots with whiskers around a line at zero; groups from top to bottom, series by colour."""
    names = list(dict.fromkeys(each.series for each in deviations))
    groups = list(dict.fromkeys(each.group for each in deviations))
    ends = [v for e in deviations for v in (e.value, e.low, e.high) if v is not None]
    low, high = min(0.0, *ends, 0.0), max(0.0, *ends, 0.0)
    margin = 0.06 * (high - low) or 1.0
    scale = _Scale(low - margin, high + margin)
    row = _ROW + 10 * (len(names) - 1)
    top = _TOP if len(names) > 1 else 10
    floor = top + row * len(groups)
    parts = [legend(names)] if len(names) > 1 else []
    parts += scale.grid(top, floor)
    for place, group in enumerate(groups):
        middle = top + row * (place + 0.5)
        parts.append(text_at(_LEFT - 8, middle + 3.5, _fitting(group), "end"))
        for each in (each for each in deviations if each.group == group):
            colour = names.index(each.series)
            shift = 10 * (colour - (len(names) - 1) / 2)
            parts += _dot(scale, each, middle + shift, colour % N_COLOURS)
    parts.append(text_at((_LEFT + WIDTH - _RIGHT) / 2, floor + 32, x_label, "middle"))
    return chart(title, parts, height=floor + _FOOT)


@dataclass(frozen=True)
class _Scale:
    """Where differences lie from left to right."""

    low: float
    high: float

    def x(self, value: float) -> float:
        return _LEFT + (value - self.low) / (self.high - self.low) * (WIDTH - _LEFT - _RIGHT)

    def grid(self, top: float, floor: float) -> list[str]:
        parts = []
        for tick in round_ticks(self.low, self.high, 5):
            x, css = self.x(tick), "axis" if tick == 0 else "grid"
            parts.append(
                f'<line class="{css}" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 4}" y2="{floor:.1f}"/>'
            )
            parts.append(text_at(x, floor + 14, tick_text(tick), "middle"))
        return parts


def _dot(scale: _Scale, each: Deviation, y: float, colour: int) -> list[str]:
    if each.value is None:
        return []
    parts = []
    if each.low is not None and each.high is not None:
        left, right = scale.x(each.low), scale.x(each.high)
        parts.append(
            f'<path class="whisker" d="M{left:.1f} {y:.1f}H{right:.1f}'
            f'M{left:.1f} {y - 3:.1f}v6M{right:.1f} {y - 3:.1f}v6"/>'
        )
    label = escape(f"{each.series}, {each.group}: {each.value:+.4g}")
    parts.append(
        f'<circle class="f{colour}" cx="{scale.x(each.value):.1f}" cy="{y:.1f}" r="4">'
        f"<title>{label}</title></circle>"
    )
    return parts


def _fitting(text: str) -> str:
    most = int((_LEFT - 10) / _CHARACTER)
    return text if len(text) <= most else text[: most - 1] + "…"
