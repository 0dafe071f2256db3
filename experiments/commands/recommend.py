"""``bookends recommend``: lists for many users, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from experiments.commands.launching import launcher_options, take_launcher


@click.command()
@click.option(
    "--model",
    required=True,
    help="models:/NAME@ALIAS, models:/NAME/VERSION, models:/m-ID, runs:/ID/model, a run or bundle "
    "directory.",
)
@click.option("--users", type=click.Path(path_type=Path), help="File with an id on each line.")
@click.option("--all-users", is_flag=True, help="All users the model knows.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="File, .parquet or .csv; a directory with --shard-size or --launcher ray.",
)
@click.option("--k", type=int, default=10, show_default=True, help="Length of each list.")
@click.option(
    "--exclude-seen/--no-exclude-seen",
    default=True,
    show_default=True,
    help="Leave out what users are known to have.",
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
@click.option(
    "--shard-size",
    type=click.IntRange(min=1),
    help="Users of each file of a directory.  [default: 100000 with --launcher ray]",
)
@launcher_options
def recommend(users: Path | None, all_users: bool, shard_size: int | None, **options: Any) -> None:
    """Write the items recommended to many users.

    Users the model does not know get the most popular items and are counted. In a directory the
    same command writes what is missing.
    """
    from rich.console import Console

    from experiments.launcher import LOCAL
    from experiments.recommend import Request, shown_progress, summary, write_recommendations
    from experiments.recommend_shards import SHARD_SIZE, write_shards
    from experiments.signals import Interrupted, interruptible

    if (users is None) != all_users:
        raise click.UsageError("give either --users FILE or --all-users")
    launcher = take_launcher(options)
    request = Request(users=users, **options)
    in_parts = shard_size is not None or launcher != LOCAL
    console = Console()
    try:
        with interruptible(), shown_progress(console) as report:
            if in_parts:
                written = write_shards(request, report, shard_size or SHARD_SIZE, launcher)
            else:
                written = write_recommendations(request, report)
    except Interrupted:
        if in_parts:
            click.echo(f"{request.out}: the same command writes the rest", err=True)
        raise
    console.print(summary(request, written), highlight=False, markup=False, soft_wrap=True)
