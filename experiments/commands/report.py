"""``bookends report``: the report of a run, written again."""

from __future__ import annotations

from pathlib import Path

import click

from experiments.commands.words import RunPath

PDF = click.option("--pdf", is_flag=True, help="As a PDF too; needs the extra 'pdf'.")


@click.command()
@click.argument("run_dir", type=RunPath("runs"))
@PDF
@click.option(
    "--summary",
    is_flag=True,
    help="Only print, as Markdown: the key figures, and how the run compares with the champion.",
)
@click.option("--name", help="--summary: of the registered model.  [default: bookends]")
@click.option("--tracking-uri", help="--summary: store or server of the champion.")
def report(
    run_dir: Path, pdf: bool, summary: bool, name: str | None, tracking_uri: str | None
) -> None:
    """Write the report of a run again from what its directory holds."""
    if summary and pdf:
        raise click.UsageError("--summary writes no report; --pdf is not for it")
    if not summary and (name is not None or tracking_uri is not None):
        raise click.UsageError("--name and --tracking-uri are for --summary")
    from recsys.reporting.record import RunRecord

    record = RunRecord.read(run_dir)
    if summary:
        from experiments.job_summary import job_summary

        click.echo(job_summary(run_dir, name or "bookends", tracking_uri), nl=False)
        return
    from recsys.reporting.report import write_report

    report_path = Path(record.config["diagnostics"]["report_path"])
    say_written(write_report(run_dir, also=report_path), pdf)


def say_written(report: tuple[Path, Path], pdf: bool) -> None:
    """Name the files of a report, its PDF among them where one is wanted."""
    from recsys.reporting.pdf import write_pdf

    for path in (*report, *([write_pdf(report[1])] if pdf else [])):
        click.echo(path)
