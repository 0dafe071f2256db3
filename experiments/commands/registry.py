"""The commands that decide which model is served."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from experiments.commands.words import complete_run

_NAME = click.option(
    "--name", default="bookends", show_default=True, help="Of the registered model."
)
_TRACKING_URI = click.option("--tracking-uri", help="MLflow store or server.")


@click.command()
@click.argument("run", shell_complete=complete_run)
@_NAME
@click.option(
    "--metric", help="To be better on.  [default: that by which the champion was trained]"
)
@click.option("--alpha", type=float, default=0.05, show_default=True, help="Level of the test.")
@click.option(
    "--margin",
    type=float,
    default=0.2,
    show_default=True,
    help="Share of the metric that cold users and items outside the head may lose.",
)
@click.option(
    "--max-bytes", type=int, default=2 * 1024**3, show_default=True, help="Of the whole bundle."
)
@click.option(
    "--max-p95-ms",
    type=float,
    default=100.0,
    show_default=True,
    help="95th percentile of the time to answer one user.",
)
@click.option(
    "--max-latency-ratio",
    type=float,
    default=1.25,
    show_default=True,
    help="Of that time to the champion's, measured in turn; below it a busy machine fails nobody.",
)
@click.option(
    "--against",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    help="Lists of another tool for the test users (CSV or Parquet: user_id, item_id and rank or "
    "score) that RUN must be better than, too.",
)
@click.option("--force", is_flag=True, help="Make it champion whatever the gate says.")
@click.option("--reason", help="Why it is forced; recorded.")
@_TRACKING_URI
@click.option("--dry-run", is_flag=True, help="Judge, and write nothing.")
def register(
    run: str,
    name: str,
    force: bool,
    reason: str | None,
    tracking_uri: str | None,
    dry_run: bool,
    against: tuple[Path, ...],
    **gate: Any,
) -> None:
    """Register RUN's model, and make it champion if it passes the gate.

    RUN is a run directory, an MLflow run id, the first characters of one, or a run's name. Exits
    with 0 when it is champion, with 1 when it was registered and the champion stays.
    """
    if force and not (reason or "").strip():
        raise click.UsageError("--force needs --reason TEXT, which is recorded")
    if reason is not None and not force:
        raise click.UsageError("--reason is for --force")

    from experiments.register import register as register_run
    from experiments.register import show
    from recsys.evaluation.gate import GateSettings
    from tracking.ledger import Ledger
    from tracking.registry import Registry

    settings = GateSettings(**gate)
    registry = Registry(Ledger.read(Path(run)).store(tracking_uri), name)
    registration = register_run(
        run, registry, settings, lists=against, reason=reason, dry_run=dry_run
    )
    show(registration, name)
    sys.exit(0 if registration.is_champion else 1)


@click.command()
@_NAME
@click.option("--to", type=click.IntRange(min=1), metavar="VERSION", help="A former champion.")
@click.option("--reason", default="", help="Recorded.")
@_TRACKING_URI
def rollback(name: str, to: int | None, reason: str, tracking_uri: str | None) -> None:
    """Make the champion before the present one champion again."""
    from tracking.registry import Registry
    from tracking.store import resolve_uri

    move = Registry(resolve_uri(tracking_uri), name).roll_back(to, reason)
    was = "nobody" if move.previous is None else f"version {move.previous}"
    click.echo(f"champion of {name} is version {move.version} now; it was {was}")
