"""Comparisons of runs as a terminal shows them."""

from __future__ import annotations

from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from recsys.evaluation.tables import Table
from recsys.reporting.comparison import RunComparison
from recsys.reporting.comparison_report import shortened
from recsys.reporting.comparison_summary import verdict
from recsys.reporting.comparison_tables import comparison_tables
from recsys.reporting.document import TableView
from recsys.reporting.pages import page_columns

_ONLY_IN_REPORT = {"d_z", "better", "worse"}
_COLOURS = {"better": "green", "worse": "red"}


def print_comparison(comparison: RunComparison, console: Console) -> None:
    """Print the verdicts, what was set differently, the metrics, differences and segments."""
    tables = comparison_tables(comparison)
    for pair in comparison.pairs:
        colour = _COLOURS.get(pair.headline.verdict, "yellow")
        text = escape(verdict(comparison, pair))
        console.print(f"[{colour}]●[/{colour}] {text}\n", highlight=False)
    for name in ("settings", "environment"):
        if name in tables:
            print_table(tables[name], console)
    print_table(tables["metrics"], console)
    for name in ("differences", "segment_differences"):
        if name in tables:
            table = shortened(tables[name])
            shown = [column for column in table.columns if column not in _ONLY_IN_REPORT]
            print_table(table.select(shown), console)


def print_table(table: Table, console: Console) -> None:
    """Print a table under its title, intervals beside their values."""
    console.print(f"[bold]{escape(table.title)}[/bold]", highlight=False)
    if not table.rows:
        console.print(escape(table.note) + "\n", highlight=False)
        return
    grid = Grid(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    columns = page_columns(TableView(table, limit=len(table.rows)))
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.is_number else "left"
        grid.add_column(escape(column.name), justify=justify, overflow="fold")
    for row in zip(*(column.cells for column in columns), strict=True):
        grid.add_row(*(escape(f"{value} {interval}".rstrip()) for value, interval in row))
    console.print(grid)
    console.print()
