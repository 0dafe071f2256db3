"""The command that lists runs."""

from __future__ import annotations

from typing import Any

import click


@click.command()
@click.option("--experiment", default="bookends", show_default=True, help="MLflow experiment.")
@click.option("--tracking-uri", help="MLflow store or server.")
@click.option(
    "--filter",
    "filter_text",
    default="",
    metavar="TEXT",
    help="Such as 'ndcg@10>=0.1', or any search filter of MLflow's.",
)
@click.option("--sort", default="ndcg@10", show_default=True, help="A metric, or 'date'.")
@click.option("--reverse", "is_reversed", is_flag=True, help="Worst or oldest first.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--all", "include_all", is_flag=True, help="Trials, sweeps and comparisons too.")
@click.option("--json", "as_json", is_flag=True, help="For programs: a JSON list.")
def runs(tracking_uri: str | None, experiment: str, as_json: bool, **choice: Any) -> None:
    """List runs in MLflow, the best on the test users first.

    A metric such as ndcg@10 is that of the test split; runs without one are shown by validation,
    after the others. 'val/ndcg@10' and 'run/seconds' name what MLflow calls them.
    """
    from experiments.runs_console import print_runs, runs_json
    from tracking.run_list import list_runs

    found = list_runs(tracking_uri, experiment, **choice)
    if as_json:
        click.echo(runs_json(found))
    else:
        print_runs(found, sort=choice["sort"], limit=choice["limit"])
