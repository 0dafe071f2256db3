"""A report as one HTML page that fetches nothing."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from recsys.reporting.document import Block, Report
from recsys.reporting.formatting import cells, numeric_columns
from recsys.reporting.markdown import remainder
from recsys.reporting.svg import STYLE

TEMPLATES = Path(__file__).parent / "templates"


def render_html(report: Report) -> str:
    """The report as a self-contained page; the same report gives the same text."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,  # titles are whatever a books file holds
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["markup"] = Markup  # for charts and styles, which are ours
    environment.tests["view"] = _is_kind
    return environment.get_template("report.html.j2").render(
        report=report,
        chart_style=STYLE,
        cells=cells,
        numeric_columns=numeric_columns,
        remainder=remainder,
    )


def _is_kind(block: Block, kind: str) -> bool:
    return type(block).__name__ == kind
