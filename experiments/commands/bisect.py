"""The command that tells what made the difference between two runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from experiments.commands.words import complete_run


@click.command()
@click.argument("old", shell_complete=complete_run)
@click.argument("new", shell_complete=complete_run)
@click.option("--metric", help="To explain.  [default: that by which OLD was trained]")
@click.option(
    "--seeds",
    "n_seeds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="On how many seeds each run is trained.",
)
@click.option("--narrow", is_flag=True, help="Find the one of the settings that changes most.")
@click.option(
    "--same-test", is_flag=True, help="Judge all runs by the test of NEW, whatever their data."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("artifacts/bisects"),
    show_default=True,
    help="Where its directory is made.",
)
@click.option("--experiment", help="Where to look for names.")
@click.option("--tracking-uri", help="MLflow store or server.")
@click.option("--no-track", is_flag=True, help="Leave the runs between the two out of MLflow.")
def bisect(old: str, new: str, no_track: bool, **choice: Any) -> None:
    """Tell which of settings, data and code made the difference from run OLD to run NEW.

    Trains what lies between the two (old settings on new data, ...), each once: the same command
    again goes on. A run is named as for 'bookends compare'.
    """
    from experiments.bisect.job import BisectRequest
    from experiments.bisect.job import bisect as bisect_runs
    from experiments.console import RunConsole

    RunConsole().logging_to_console()
    bisect_runs(BisectRequest(old, new, is_tracked=not no_track, **choice))
