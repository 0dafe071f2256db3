"""From a run directory to its report, with no training, no tracker and no network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from recsys.evaluation.tables import Table
from recsys.reporting.document import Report
from recsys.reporting.formatting import moment
from recsys.reporting.pages import write_report_files
from recsys.reporting.record import RunRecord, read_tables
from recsys.reporting.sections import sections
from recsys.reporting.summary import key_figures, notices, summary


def build_report(record: RunRecord, tables: Mapping[str, Table]) -> Report:
    """The report of a run from its record and its tables, in the order in which they are shown."""
    return Report(
        title=record.run_name,
        subtitle=f"Two-tower recommender · {moment(record.created)} · {record.status}",
        summary=summary(record, tables),
        notices=notices(record),
        key_figures=key_figures(record),
        sections=sections(record, tables),
    )


def write_report(
    run_dir: Path, *, also: Path | None = None, record: RunRecord | None = None
) -> tuple[Path, Path]:
    """Make report.md, report.html and figures/ of a run directory from its record.

    Args:
        run_dir: holds record.json and tables/.
        also: a second place for the Markdown; the HTML goes beside it, named alike.
        record: what the run's record is about to be; None reads it.

    Returns:
        The Markdown and the HTML file in the run directory.
    """
    record = record or RunRecord.read(run_dir)
    report = build_report(record, read_tables(run_dir, record.tables))
    return write_report_files(report, run_dir, "report", also=also)
