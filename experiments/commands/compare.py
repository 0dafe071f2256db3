"""The command that tells whether runs differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from experiments.commands.words import complete_run


@click.command()
@click.argument("run", shell_complete=complete_run, nargs=-1, required=True)
@click.option("--metric", "metrics", multiple=True, help="To test; the first one decides.")
@click.option(
    "--confidence",
    type=click.FloatRange(0.5, 1, max_open=True),
    help="Of intervals and findings.  [default: that of the first run's evaluation]",
)
@click.option("--name", default="", help="Of the comparison and its directory.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("artifacts/comparisons"),
    show_default=True,
    help="Where its directory is made.",
)
@click.option("--experiment", help="Where to look for names, and to log the comparison.")
@click.option("--tracking-uri", help="MLflow store or server.")
@click.option("--no-track", is_flag=True, help="Leave the comparison out of MLflow.")
def compare(run: tuple[str, ...], no_track: bool, **choice: Any) -> None:
    """Compare every RUN with the first: what differs, and whether the difference is real.

    A RUN is a run directory, an MLflow run id, its first 6 characters or more, or a run's name; all
    but the first may also be a file with the lists of another tool (user_id, item_id and rank or
    score). What is of other data is judged on the test of the first.
    """
    from experiments.compare import CompareRequest
    from experiments.compare import compare as compare_runs

    compare_runs(CompareRequest(runs=run, is_tracked=not no_track, **choice))
