"""A report as a value: what it says, and nothing of how it looks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from recsys.evaluation.tables import Table

Tone = Literal["information", "warning"]


@dataclass(frozen=True)
class Figure:
    """A chart.

    Attributes:
        name: snake_case, safe as a file name.
        title: one line above the chart.
        caption: how to read it.
        svg: the drawing, an ``<svg>`` element without a style of its own.
    """

    name: str
    title: str
    caption: str
    svg: str


@dataclass(frozen=True)
class Figures:
    """Charts that belong side by side."""

    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class TableView:
    """A table as a report shows it.

    Attributes:
        table: what is shown; its title is the heading, its note follows.
        limit: rows shown at most; the note says where the others are.
        is_folded: whether the table opens only when asked for.
    """

    table: Table
    limit: int = 60
    is_folded: bool = False

    def marks(self, row: int) -> bool:
        """Whether a row is to stand out: a recommended item that was held out."""
        if "held_out" not in self.table.columns:
            return False
        return self.table.rows[row][self.table.columns.index("held_out")] == "yes"


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Callout:
    """A paragraph that must not be overlooked."""

    text: str
    tone: Tone = "information"


@dataclass(frozen=True)
class Code:
    """Commands to copy."""

    text: str


Block = Figures | TableView | Text | Callout | Code


@dataclass(frozen=True)
class Section:
    """A part of the report under a heading; ``anchor`` is its address within the page."""

    anchor: str
    title: str
    blocks: tuple[Block, ...]

    @classmethod
    def of(cls, parts: Iterable[tuple[str, str, Sequence[Block]]]) -> tuple[Section, ...]:
        """The parts, (anchor, title, blocks), that have something to say."""
        return tuple(cls(anchor, title, tuple(blocks)) for anchor, title, blocks in parts if blocks)


@dataclass(frozen=True)
class KeyFigure:
    """One number that matters, what it is, and what to hold it against."""

    label: str
    value: str
    detail: str


@dataclass(frozen=True)
class Report:
    """The whole report.

    Attributes:
        title: name of the run.
        subtitle: when it ran and how it ended.
        summary: the outcome in plain words.
        notices: what must be known before the numbers.
        key_figures: the numbers that matter.
        sections: everything else, in order.
    """

    title: str
    subtitle: str
    summary: str
    notices: tuple[Callout, ...]
    key_figures: tuple[KeyFigure, ...]
    sections: tuple[Section, ...]

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Every chart, in order."""
        blocks = [block for section in self.sections for block in section.blocks]
        return tuple(f for block in blocks if isinstance(block, Figures) for f in block.figures)
