"""A report as files: one HTML page that fetches nothing, Markdown, and each chart by itself."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from recsys.reporting.document import Block, Report, TableView
from recsys.reporting.formatting import GAP, cells, numeric_columns
from recsys.reporting.markdown import remainder, render_markdown
from recsys.reporting.record import write_text
from recsys.reporting.svg import STYLE, standalone

_BOUNDS = (
    ("{} interval",),
    ("interval",),
    ("low", "high"),
    ("{} low", "{} high"),
    ("{}_low", "{}_high"),
)
"""Columns that follow another one, ``{}``, and hold its interval."""
TEMPLATES = Path(__file__).parent / "templates"
FIGURES_DIR = "figures"
_LONG_WORD = 14  # characters


@dataclass(frozen=True)
class Column:
    """A column of a table on a page; where its interval has columns of its own, with that below.

    Attributes:
        name: of the column.
        bounds: what stands below the values; empty where nothing does.
        is_number: whether it stands to the right.
        cells: one a row, as (value, interval); "" for none.
    """

    name: str
    bounds: str
    is_number: bool
    cells: tuple[tuple[str, str], ...]


def page_columns(view: TableView) -> list[Column]:
    """The columns of a table as a page shows them, intervals in the column of their value."""
    names, right = view.table.columns, numeric_columns(view.table)
    texts = list(zip(*cells(view.table, view.limit), strict=True))
    found, place = [], 0
    while place < len(names):
        width = _n_bounds(names, place)
        bounds = texts[place + 1 : place + 1 + width]
        below = [_interval(parts) for parts in zip(*bounds, strict=True)] or [""] * len(
            texts[place]
        )
        said = {0: "", 1: "interval", 2: "[low, high]"}[width]
        pairs = tuple(zip(texts[place], below, strict=True))
        found.append(Column(names[place], said, right[place], pairs))
        place += 1 + width
    return found


def _n_bounds(names: Sequence[str], place: int) -> int:
    """How many columns behind this one hold its interval."""
    for bounds in _BOUNDS:
        wanted = tuple(each.format(names[place]) for each in bounds)
        if tuple(names[place + 1 : place + 1 + len(wanted)]) == wanted:
            return len(wanted)
    return 0


def _interval(parts: tuple[str, ...]) -> str:
    """An interval of one text or two; nothing where it is not known."""
    if GAP in parts:
        return ""
    return parts[0] if len(parts) == 1 else f"[{', '.join(parts)}]"


def write_report_files(
    report: Report, directory: Path, stem: str, *, also: Path | None = None
) -> tuple[Path, Path]:
    """Put a report into a directory as ``stem``.md, ``stem``.html and figures/.

    Args:
        report: what to write; the same report gives the same bytes.
        directory: of the run, the sweep or the comparison. Files are replaced whole.
        stem: of the two files' names.
        also: a second place for the Markdown, which shows the charts of ``directory``; the HTML
            goes beside it, named alike.

    Returns:
        The Markdown and the HTML file in the directory.
    """
    for figure in report.figures:
        write_text(directory / FIGURES_DIR / f"{figure.name}.svg", standalone(figure.svg))
    written = directory / f"{stem}.md", directory / f"{stem}.html"
    page = render_html(report)
    for path in (written[0], *(() if also is None else (also,))):
        folder = os.path.relpath(directory / FIGURES_DIR, path.parent)
        write_text(path, render_markdown(report, Path(folder).as_posix()))
        write_text(path.with_suffix(".html"), page)
    return written


def render_html(report: Report) -> str:
    """The report as a self-contained page; the same report gives the same text."""
    environment = page_templates(TEMPLATES)
    environment.filters["markup"] = Markup  # for charts and styles, which are ours
    environment.tests["view"] = _is_kind
    return environment.get_template("report.html.j2").render(
        report=report,
        chart_style=STYLE,
        page_columns=page_columns,
        has_long_word=_has_long_word,
        remainder=remainder,
    )


def page_templates(folder: Path) -> Environment:
    """The templates of a folder; what they are given is escaped, and nothing may be missing."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,  # titles are whatever books.csv holds
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _has_long_word(cell: str) -> bool:
    """Whether a cell has a word that a telephone's page has no room for, such as a digest."""
    return any(len(word) > _LONG_WORD for word in cell.replace("-", " ").split())


def _is_kind(block: Block, kind: str) -> bool:
    return type(block).__name__ == kind
