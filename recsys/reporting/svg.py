"""What charts are drawn with, as SVG text: the same input, the same bytes; colours by the page.

Elements carry classes only; ``STYLE`` gives the classes their colours for a light and a dark page.
A chart is drawn 380 units wide, about as wide as a phone, so that its text stays readable there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 380, 240
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 34, 38
FLOOR = HEIGHT - BOTTOM
STYLE = """
.chart{font-family:system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;font-size:11px;
--c-text:#5b6169;--c-grid:#e4e1da;--c-strong:#22262b;--s0:#1f5f99;--s1:#9a9fa6;--s2:#c5841c;
--s3:#4e8a5b;--s4:#8a5a9e;--s5:#b04a4a;--s6:#3f8f92}
@media (prefers-color-scheme:dark){.chart{--c-text:#a4abb3;--c-grid:#343a41;--c-strong:#eceae4;
--s0:#6cb0ea;--s1:#7d858e;--s2:#e3ab4f;--s3:#7dbd8b;--s4:#c296d6;
--s5:#e08a8a;--s6:#74c5c8}}
.chart text{fill:var(--c-text)}.chart .small{font-size:9px}
.chart .strong{fill:var(--c-strong);font-weight:600}
.chart .grid{stroke:var(--c-grid);stroke-width:1}.chart .axis{stroke:var(--c-text);stroke-width:1}
.chart .whisker{stroke:var(--c-strong);stroke-width:1.2;fill:none}
.chart .best{stroke:var(--c-strong);stroke-width:1;stroke-dasharray:3 3}
.chart .line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.chart .area{fill-opacity:.32;stroke-width:1.5}
.chart .f0{fill:var(--s0)}.chart .f1{fill:var(--s1)}.chart .f2{fill:var(--s2)}
.chart .f3{fill:var(--s3)}.chart .f4{fill:var(--s4)}.chart .f5{fill:var(--s5)}
.chart .f6{fill:var(--s6)}
.chart .l0{stroke:var(--s0)}.chart .l1{stroke:var(--s1)}.chart .l2{stroke:var(--s2)}
.chart .l3{stroke:var(--s3)}.chart .l4{stroke:var(--s4)}.chart .l5{stroke:var(--s5)}
.chart .l6{stroke:var(--s6)}
"""
N_COLOURS = 7


def standalone(svg: str) -> str:
    """A chart as a file of its own, its style within."""
    head, tail = svg.split(">", 1)
    return f"{head}><style>{STYLE}</style>{tail}\n"


@dataclass(frozen=True)
class Plane:
    """Where values lie on the page."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    left: float = LEFT
    right: float = RIGHT

    def x(self, value: float) -> float:
        """From the left; the middle where all values are one."""
        span = self.x_high - self.x_low
        share = (value - self.x_low) / span if span else 0.5
        return self.left + share * (WIDTH - self.left - self.right)

    def y(self, value: float) -> float:
        """From the top."""
        return FLOOR - (value - self.y_low) / (self.y_high - self.y_low) * (FLOOR - TOP)

    def y_axis(self) -> list[str]:
        """Lines across at round numbers, which stand beside them."""
        parts = []
        for tick in round_ticks(self.y_low, self.y_high, 4):
            y = self.y(tick)
            parts.append(
                f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            )
            parts.append(text_at(LEFT - 6, y + 3.5, tick_text(tick), "end"))
        return parts


def chart(title: str, parts: Sequence[str], *, height: float = HEIGHT) -> str:
    """The parts as one drawing."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {WIDTH} {height}" '
        f'role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )


def plot(
    title: str,
    plane: Plane,
    names: Mapping[int, str] | Sequence[str],
    x_label: str,
    labels: Sequence[tuple[float, str]],
    marks: Sequence[str],
    *,
    is_small: bool = False,
) -> str:
    """Marks in a plane, as one drawing.

    Args:
        title: of the drawing.
        plane: where the marks lie.
        names: of the marks, by colour or in the order of the colours.
        x_label: what the numbers along the bottom are.
        labels: (x, text) along the bottom.
        marks: what is drawn.
        is_small: whether the labels are.
    """
    css = "small" if is_small else ""
    bottom = [text_at(plane.x(x), FLOOR + 14, text, "middle", css) for x, text in labels]
    if x_label:
        bottom.insert(0, text_at((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x_label, "middle"))
    return chart(title, [legend(names), *plane.y_axis(), *bottom, *marks])


def legend(names: Mapping[int, str] | Sequence[str]) -> str:
    """Names at the top, each beside its colour, in a second row where one has no room for all."""
    parts, x, y = [], float(LEFT), 9
    for colour, name in names.items() if isinstance(names, Mapping) else enumerate(names):
        width = 13 + 5.9 * len(name)
        if x > LEFT and x + width > WIDTH:
            x, y = float(LEFT), y + 12
        parts.append(
            f'<rect class="f{colour % N_COLOURS}" x="{x:.1f}" y="{y}" width="9" height="9" rx="2"/>'
        )
        parts.append(text_at(x + 13, y + 8, name, "start"))
        x += 13 + width
    return "".join(parts)


def circle(x: float, y: float, radius: float, colour: int, name: str, style: str = "") -> str:
    """A mark whose name shows when it is pointed at."""
    return (
        f'<circle class="f{colour}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"{style}>'
        f"<title>{escape(name)}</title></circle>"
    )


def text_at(x: float, y: float, text: str, anchor: str, css: str = "") -> str:
    """A line of text; ``anchor`` says which end of it, or its middle, stands at x."""
    kind = f' class="{css}"' if css else ""
    return f'<text{kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def padded(low: float, high: float, share: float = 0.08) -> tuple[float, float]:
    """A range somewhat wider, never of no width."""
    margin = share * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def round_ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers within the range."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def whole_ticks(low: float, high: float) -> list[float]:
    """Whole numbers within the range, at most about ten."""
    step = max(1, math.ceil((high - low) / 9))
    return [float(x) for x in range(math.ceil(low), math.floor(high) + 1, step)]


def log_ticks(low: float, high: float, about: int) -> list[float]:
    """Powers of ten between 10**low and 10**high; also 3, or 2 and 5 times them where few are."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        ticks = [factor * 10.0**power for power in powers for factor in factors]
        inside = [tick for tick in ticks if low <= math.log10(tick) <= high]
        if len(inside) >= about // 2 + 1:
            return inside
    return inside or [10.0**low, 10.0**high]


def tick_text(value: float) -> str:
    """A number beside an axis."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
