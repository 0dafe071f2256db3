"""A report as Markdown that reads well unrendered, its charts linked as files."""

from __future__ import annotations

import re
from typing import assert_never
from urllib.parse import quote

from recsys.evaluation.tables import Table
from recsys.reporting.document import (
    Block,
    Callout,
    Code,
    Figure,
    Figures,
    KeyFigure,
    Report,
    TableView,
    Text,
)
from recsys.reporting.formatting import cells, numeric_columns

_SPECIAL = re.compile(r"([\\`*<|~]|\](?=[(\[])|&(?=\w+;|#)|(?<!\w)_|_(?!\w))")
_LINE_START = re.compile(r"^(\s*)([#>+-]|\d+[.)])(?=\s|$)")


def render_markdown(report: Report, figures: str) -> str:
    """The report as GitHub-flavoured Markdown; the same report gives the same text.

    Args:
        report: what to say.
        figures: the folder of the charts, relative to where the Markdown lies.
    """
    parts = [f"# {escape(report.title)}", escape(report.subtitle), escape(report.summary)]
    parts += [_block(notice, figures) for notice in report.notices]
    parts.append("\n".join(map(_key_figure, report.key_figures)))
    for section in report.sections:
        parts.append(f"## {escape(section.title)}")
        parts += [_block(block, figures) for block in section.blocks]
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line, within a table cell or outside."""
    flat = " ".join(text.split())
    escaped = _SPECIAL.sub(r"\\\1", flat)
    return _LINE_START.sub(r"\1\\\2", escaped)


def table_markdown(view: TableView) -> str:
    """The rows of a table as a Markdown table, numbers to the right."""
    table = view.table
    lines = [_row(table.columns)]
    lines.append(
        "|" + "|".join("---:" if right else "---" for right in numeric_columns(table)) + "|"
    )
    lines += [_row(row) for row in cells(table, view.limit)]
    return "\n".join(lines)


def _block(block: Block, figures: str) -> str:
    match block:
        case Text():
            return escape(block.text)
        case Callout():
            word = "Warning" if block.tone == "warning" else "Note"
            return f"> **{word}.** {escape(block.text)}"
        case Code():
            fence = "`" * max(
                3, 1 + max((len(run) for run in re.findall("`+", block.text)), default=0)
            )
            return f"{fence}\n{block.text}\n{fence}"
        case Figures():
            return "\n\n".join(_figure(figure, figures) for figure in block.figures)
        case TableView():
            return _table(block)
        case _:
            assert_never(block)


def _figure(figure: Figure, folder: str) -> str:
    caption = f"\n\n{escape(figure.caption)}" if figure.caption else ""
    return f"![{escape(figure.title)}]({quote(folder)}/{figure.name}.svg){caption}"


def _table(view: TableView) -> str:
    table = view.table
    parts = [f"### {escape(table.title)}"]
    parts.append(table_markdown(view) if table.rows else "No rows.")
    if table.note:
        parts.append(escape(table.note))
    if (rest := remainder(table, view.limit)) is not None:
        parts.append(escape(rest))
    return "\n\n".join(parts)


def remainder(table: Table, limit: int) -> str | None:
    """Where the rows beyond the limit are; None where all are shown."""
    if len(table.rows) <= limit:
        return None
    return f"The first {limit} of {len(table.rows):,} rows; all are in tables/{table.name}.json."


def _key_figure(figure: KeyFigure) -> str:
    detail = f" ({escape(figure.detail)})" if figure.detail else ""
    return f"- {escape(figure.label)}: **{escape(figure.value)}**{detail}"


def _row(texts: tuple[str, ...] | list[str]) -> str:
    return "| " + " | ".join(escape(text) for text in texts) + " |"
