"""The rows of the table of results, and its Markdown."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.sides import Timing

COLUMNS = ("what", "ours", "against", "figure", "bar", "", "beyond", "", "CPU seconds")


@dataclass(frozen=True)
class Target:
    """A number to reach: at least it (``>=``) or at most it (``<=``)."""

    sign: Literal[">=", "<="]
    number: float

    def is_met(self, value: float) -> bool:
        """Whether the value reaches it."""
        return value >= self.number if self.sign == ">=" else value <= self.number


@dataclass(frozen=True)
class Row:
    """One figure and what it is held against.

    Attributes:
        what: what was measured.
        value: the figure; None where it could not be taken, and ``note`` says why.
        unit: of the figure: "x" for a ratio.
        bar: to be reached; None for a figure that is only shown.
        beyond: what would be better still.
        ours: our side in words, with its unit.
        against: the other side in words.
        note: what one must know to read the figure.
        counted: work done by each side, and other figures that confirm the ratio.
        timings: every run of each side.
    """

    what: str
    value: float | None
    unit: str = "x"
    bar: Target | None = None
    beyond: Target | None = None
    ours: str = ""
    against: str = ""
    note: str = ""
    counted: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, Timing] = field(default_factory=dict)

    def verdict(self, target: Target | None) -> str:
        """Whether the figure reaches the target, in a word."""
        if self.value is None:
            return "not measured"
        if target is None:
            return ""
        return "met" if target.is_met(self.value) else "**missed**"

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as text, in the order of ``COLUMNS``."""
        cpu = " : ".join(f"{number(timing.median_cpu)}" for timing in self.timings.values())
        return (
            self.what,
            self.ours,
            self.against,
            "–" if self.value is None else with_unit(self.value, self.unit),
            self._target(self.bar),
            self.verdict(self.bar),
            self._target(self.beyond),
            self.verdict(self.beyond),
            cpu,
        )

    def _target(self, target: Target | None) -> str:
        sign = {">=": "≥", "<=": "≤"}
        return (
            "" if target is None else f"{sign[target.sign]} {with_unit(target.number, self.unit)}"
        )

    def to_json(self) -> dict[str, Any]:
        """All of it, verdicts and every single timing included."""
        verdicts = {
            "bar": self._target(self.bar),
            "verdict": self.verdict(self.bar).strip("*"),
            "beyond": self._target(self.beyond),
            "verdict_beyond": self.verdict(self.beyond).strip("*"),
        }
        return dataclasses.asdict(self) | verdicts


def faster(what: str, each: str, ours: Timing, other: str, theirs: Timing, **row: Any) -> Row:
    """A row on how many times as much we do in a second as the other side.

    Args:
        what: was measured.
        each: what both sides count, such as "users".
        ours: our runs.
        other: name of the other side.
        theirs: its runs.
        row: further parts of the row.
    """
    confirmed = {"ratio of CPU seconds": theirs.median_cpu / ours.median_cpu}
    return Row(
        what,
        ours.rate(each) / theirs.rate(each),
        ours=f"{number(ours.rate(each))} {each}/s",
        against=f"{other} {number(theirs.rate(each))}",
        timings={"product": ours, other: theirs},
        **row | {"counted": confirmed | row.get("counted", {})},
    )


def number(value: float) -> str:
    """Three significant digits, thousands parted."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def with_unit(value: float, unit: str) -> str:
    """The number with its unit; a ratio's follows without a space."""
    return f"{value:.2f}x" if unit == "x" else f"{number(value)} {unit}"


def markdown(rows: Sequence[Row], machine: Sequence[str]) -> str:
    """The page: machine, table, and a paragraph for each row that needs one."""
    lines = ["# Benchmark results", "", *(f"- {line}" for line in machine), ""]
    lines += ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(row.cells) + " |" for row in rows]
    lines += ["", "CPU seconds: median of a run of each side, all threads, ours first.", ""]
    for row in rows:
        if row.note or row.counted:
            counted = "; ".join(f"{name} {_shown(value)}" for name, value in row.counted.items())
            parts = [part for part in (row.note, counted and f"Counted: {counted}.") if part]
            lines += [f"**{row.what}.** {' '.join(parts)}", ""]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    return number(value) if isinstance(value, int | float) else str(value)
