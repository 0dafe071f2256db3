"""A report as files: one HTML page that fetches nothing, Markdown, and each chart by itself."""

from __future__ import annotations

import os
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from recsys.reporting.document import Block, Report
from recsys.reporting.formatting import cells, numeric_columns
from recsys.reporting.markdown import remainder, render_markdown
from recsys.reporting.record import write_text
from recsys.reporting.svg import STYLE, standalone

TEMPLATES = Path(__file__).parent / "templates"
FIGURES_DIR = "figures"


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
        cells=cells,
        numeric_columns=numeric_columns,
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


def _is_kind(block: Block, kind: str) -> bool:
    return type(block).__name__ == kind
