"""``bookends recommend``: lists for many users, as a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click


@click.command()
@click.option(
    "--model",
    required=True,
    help="models:/NAME@ALIAS, models:/NAME/VERSION, models:/m-ID, runs:/ID/model, a run or bundle "
    "directory.",
)
@click.option("--users", type=click.Path(path_type=Path), help="File with an id on each line.")
@click.option("--all-users", is_flag=True, help="All users the model knows.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help=".parquet or .csv.")
@click.option("--k", type=int, default=10, show_default=True, help="Length of each list.")
@click.option(
    "--exclude-seen/--no-exclude-seen",
    default=True,
    show_default=True,
    help="Leave out what users are known to have read.",
)
@click.option("--category", "categories", multiple=True, help="Only items of these categories.")
@click.option("--ann", is_flag=True, help="Search by an index; its recall is measured and shown.")
@click.option("--tracking-uri", help="MLflow store or server of the model.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=2048,
    show_default=True,
    help="Users answered at once.",
)
def recommend(users: Path | None, all_users: bool, **options: Any) -> None:
    """Write the items recommended to many users.

    Users the model does not know get the most popular items and are counted.
    """
    from rich.console import Console

    from experiments.recommend import Request, shown_progress, summary, write_recommendations
    from experiments.signals import Interrupted, interruptible

    if (users is None) != all_users:
        raise click.UsageError("give either --users FILE or --all-users")
    request = Request(users=users, **options)
    console = Console()
    try:
        with interruptible(), shown_progress(console) as report:
            written = write_recommendations(request, report)
    except Interrupted as interrupted:
        sys.exit(interrupted.exit_code)
    console.print(summary(request, written), highlight=False, markup=False, soft_wrap=True)
