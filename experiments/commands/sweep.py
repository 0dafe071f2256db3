"""``bookends sweep``: a search, its workers elsewhere, and its report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from experiments.commands.launching import launcher_options, take_launcher
from experiments.commands.report import PDF, say_written
from experiments.commands.words import OVERRIDES, RunPath, SweepCommand, words_of

PATH = click.Path(path_type=Path)


class _StartByDefault(click.Group):
    """Runs 'start' where no other of its commands is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        is_completed = ctx.resilient_parsing and not args
        if not is_completed and (not args or args[0] not in self.commands):
            args = ["start", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_StartByDefault)
def sweep() -> None:
    """Search a space of settings."""


@sweep.command(cls=SweepCommand, context_settings=OVERRIDES)
@click.option("--space", type=PATH, required=True, help="YAML with what may vary.")
@click.option("--config", type=PATH, help="YAML with differences from the defaults.")
@click.option(
    "--trials", "n_trials", type=int, help="Trials in all.  [default: 30; unlimited with --hours]"
)
@click.option("--hours", type=float, help="How long trials may run; finalists come after it.")
@click.option(
    "--stop/--no-stop",
    default=None,
    help="End the search where the rest is noise to finalists.  [default: where it can be told]",
)
@click.option("--workers", type=int, help="Processes that run trials.  [default: 1]")
@launcher_options
@click.option("--gpus-per-worker", type=float, help="Reserved on the cluster.  [default: 0]")
@click.option(
    "--ray-listen",
    metavar="ADDRESS",
    help="Of this machine, for workers to reach.  [default: 127.0.0.1 or what others see]",
)
@click.option("--name", help="Of the sweep; default from the space and a digest of all settings.")
@click.option("--storage", envvar="BOOKENDS_STORAGE", help="Of the study; default a journal file.")
@click.option(
    "--sampler",
    shell_complete=words_of("sampler"),
    help="tpe, random, grid, gp, qmc, cmaes, nsgaii or optunahub:PACKAGE.  [default: tpe]",
)
@click.option("--startup-trials", type=int, help="Drawn at random first.  [default: 10]")
@click.option(
    "--pruner",
    shell_complete=words_of("pruner"),
    help="none, median, percentile, asha, hyperband or patient.  [default: median; none where it "
    "could not prune]",
)
@click.option("--pruner-startup-trials", type=int, help="Complete before any is pruned.")
@click.option("--pruner-warmup-epochs", type=int, help="Of a trial, in which none is pruned.")
@click.option("--percentile", type=float, help="The best so many per cent go on.")
@click.option("--pruner-patience", type=int, help="Epochs without gain, pruner patient.")
@click.option("--reduction-factor", type=int, help="One in so many goes on, asha and hyperband.")
@click.option(
    "--objective",
    "objectives",
    multiple=True,
    help="METRIC[:maximize|:minimize].  [default: that which training watches]",
)
@click.option("--constraint", "constraints", multiple=True, help="Such as 'train_seconds<=60'.")
@click.option(
    "--warm-from",
    multiple=True,
    metavar="SWEEP_DIR|EXPERIMENT",
    help="Run the best of earlier sweeps first.",
)
@click.option("--seed", type=int, help="Of the search.  [default: 0]")
@click.option(
    "--user-share",
    type=float,
    help="Run all on this share of the users first.  [default: all at once]",
)
@click.option("--promoted", type=int, help="How many of those are run on all users.")
@click.option("--finalists", type=int, help="Trained again on fresh seeds.  [default: 3]")
@click.option("--finalist-seeds", type=int, help="On how many.  [default: 3]")
@click.option("--race/--no-race", default=True, help="Spare clear losers further seeds.")
@click.option(
    "--baseline-trials",
    type=int,
    help="Of each baseline; 0 tunes none.  [default: as many as the search had, at most 50]",
)
@click.option("--final/--no-final", "final_run", default=True, help="Run the winner in full.")
@click.option(
    "--upload-data",
    is_flag=True,
    help="Put the prepared data with the tracker's artifacts, for workers on other machines.",
)
@click.option(
    "--sweeps-dir", type=PATH, default=Path("artifacts/sweeps"), show_default=True, help="Where."
)
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED)
def start(
    space: Path,
    config: Path | None,
    sweeps_dir: Path,
    name: str | None,
    storage: str | None,
    upload_data: bool,
    overrides: tuple[str, ...],
    **options: Any,
) -> None:
    """Search a space: the same command again goes on where it was.

    Any setting that does not vary can be given by its dotted name, as for 'bookends run'.
    """
    from experiments import children
    from experiments.launcher import local_threads
    from experiments.signals import Interrupted
    from experiments.sweep.request import SweepRequest, read_settings

    launcher = take_launcher(options)
    settings = read_settings(space, config, overrides, options)
    request = SweepRequest(settings, space.stem, name, storage, sweeps_dir, upload_data)
    if launcher.name == "local":
        children.warm_up(local_threads(settings.workers))
    # these take seconds, as what the workers are forked from does meanwhile
    from experiments.sweep.console import SweepConsole
    from experiments.sweep.parent import sweep as sweep_job

    console = SweepConsole()
    console.logging_to_console()
    try:
        sweep_job(request, console, launcher)
    except Interrupted as interrupted:
        sys.exit(interrupted.exit_code)


@sweep.command(context_settings=OVERRIDES)
@click.option("--study", required=True, help="Name of the sweep.")
@click.option("--storage", envvar="BOOKENDS_STORAGE", required=True, help="Where its study is.")
@click.option("--stage", type=click.Choice(["share", "search", "finalists"]), hidden=True)
@click.option("--index", type=int, default=0, hidden=True)
@click.option("--with-parent", "has_parent", is_flag=True, hidden=True)
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED)
def worker(
    study: str,
    storage: str,
    stage: Any,
    index: int,
    has_parent: bool,
    overrides: tuple[str, ...],
) -> None:
    """Take part in a sweep, from this or another machine.

    Settings that differ here, such as --data.books_path, can be given by their dotted name.
    """
    from experiments.settings import parse_overrides
    from experiments.signals import Interrupted
    from experiments.sweep.state import Assignment
    from experiments.sweep.worker import join

    try:
        assignment = Assignment(study, storage, stage, index, has_parent)
        n_trials = join(assignment, parse_overrides(overrides))
    except Interrupted as interrupted:
        sys.exit(interrupted.exit_code)
    click.echo(f"{n_trials} trials run; none is left")


@sweep.command("report")
@click.argument("sweep_dir", type=RunPath("sweeps"))
@PDF
def sweep_report(sweep_dir: Path, pdf: bool) -> None:
    """Write the report of a sweep again from what its directory holds."""
    from sweeps.report import write_sweep_report

    say_written(write_sweep_report(sweep_dir), pdf)
