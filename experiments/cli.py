"""The command line: every command imports what it needs, when it is called."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from experiments.commands.bisect import bisect
from experiments.commands.compare import compare
from experiments.commands.prepare import prepare
from experiments.commands.recommend import recommend
from experiments.commands.registry import register, rollback
from experiments.commands.report import report
from experiments.commands.runs import runs
from experiments.commands.serve import serve
from experiments.commands.sweep import sweep
from experiments.commands.words import OVERRIDES, RunPath, SettingsCommand
from experiments.signals import Interrupted
from recsys.addresses import hide_passwords
from recsys.errors import BookendsError

PATH = click.Path(path_type=Path)


class _OneLineErrors(click.Group):
    """Prints what the user can mend as one line and exits with 2; after a signal with its code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except Interrupted as interrupted:
            sys.exit(interrupted.exit_code)
        except BookendsError as error:
            _refuse(str(error))
        except OSError as error:
            where = f"{error.filename}: " if error.filename is not None else ""
            _refuse(f"{where}{error.strerror or error}")
        except (MemoryError, RuntimeError) as error:  # PyTorch's for memory is a RuntimeError
            if not isinstance(error, MemoryError) and "allocate" not in str(error):
                raise
            line = (str(error).splitlines() or [""])[0][-200:]
            _refuse(f"what the settings ask for must fit into memory, and does not ({line})")


def _refuse(line: str) -> NoReturn:
    click.echo(f"bookends: {hide_passwords(line)}", err=True)
    sys.exit(2)


@click.group(cls=_OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="bookends")
def main() -> None:
    """Experiment-tracked two-tower recommenders."""


@main.command(cls=SettingsCommand, context_settings=OVERRIDES)
@click.option("--config", type=PATH, help="YAML with differences from the defaults.")
@click.option("--resume", type=RunPath("runs"), help="Run directory of a run to go on with.")
@click.option("--prepared", is_flag=True, help="Only from data that 'data prepare' prepared.")
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="That train together on this machine; torchrun starts them as well, on several.",
)
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED)
def run(
    config: Path | None,
    resume: Path | None,
    prepared: bool,
    processes: int,
    overrides: tuple[str, ...],
) -> None:
    """Train, evaluate and report one model.

    Any setting can be given by its dotted name, for example --training.num_epochs 3;
    'bookends config show' lists them all.
    """
    from experiments.launcher import said_by_first
    from experiments.settings import load_config

    if config is not None and resume is not None:
        raise click.UsageError("--resume takes the settings of the run; --config is not for it")
    with said_by_first():
        directory = None
        if resume is not None:
            from experiments.run_directory import RunDirectory

            directory = RunDirectory.open(resume)
        settings = load_config(config if directory is None else directory.config_path, overrides)
        if prepared:
            from recsys.data.dataset import check_prepared

            check_prepared(settings.data, settings.experiment.seed)
    # these take seconds, which nobody is to wait for whose settings are wrong
    from experiments.console import RunConsole
    from experiments.processes import follow, training_processes
    from experiments.runner import run as run_job

    with training_processes(processes, settings) as together:
        if not together.is_first:
            follow(settings, together)
            return
        console = RunConsole()
        console.logging_to_console()
        run_job(settings, console, resume=directory, processes=together)


@main.command()
@click.argument("directory", type=RunPath("runs", "sweeps"))
@click.option("--tracking-uri", help="MLflow store or server; default as in the run.")
@click.option(
    "--storage", envvar="BOOKENDS_STORAGE", help="Of a sweep's study, where it is a database."
)
def track(directory: Path, tracking_uri: str | None, storage: str | None) -> None:
    """Send a run's or a sweep's directory to MLflow; what is there already stays as it is."""
    from tracking.store import without_password

    if (directory / "study.json").exists():
        from experiments.sweep.delivery import send_sweep

        sweep_run = send_sweep(directory, tracking_uri=tracking_uri, storage=storage)
        click.echo(f"{directory} is run {sweep_run.run_id} in {without_password(sweep_run.uri)}")
        return
    from tracking.mirror import mirror

    sent = mirror(directory, tracking_uri)
    click.echo(f"{directory} is run {sent.run_id} in {sent.tracking_uri}")


@main.command()
@click.option("--tracking-uri", help="MLflow store or server.")
@click.option("--experiment", help="Only this experiment.")
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    metavar="HOURS",
    help="Also end runs of other machines that began longer ago.",
)
@click.option(
    "--include-foreign", is_flag=True, help="Also end runs that no process of ours took up."
)
def reconcile(
    tracking_uri: str | None,
    experiment: str | None,
    older_than: float | None,
    include_foreign: bool,
) -> None:
    """Mend the status of runs whose process died without a word (kill -9, power)."""
    from datetime import timedelta

    from tracking.reconcile import reconcile as mend

    age = None if older_than is None else timedelta(hours=older_than)
    found = mend(tracking_uri, experiment, older_than=age, include_foreign=include_foreign)
    for run in sorted(found, key=lambda run: not run.is_ended):
        click.echo(
            f"{'ended' if run.is_ended else 'left':<8}{run.run_id}  {run.name}: {run.reason}"
        )
    n_ended = sum(run.is_ended for run in found)
    click.echo(f"runs ended: {n_ended}, left as they are: {len(found) - n_ended}")


@main.group()
def config() -> None:
    """Look at settings."""


@config.command(cls=SettingsCommand, context_settings=OVERRIDES)
@click.option("--config", "path", type=PATH, help="YAML with differences from the defaults.")
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED)
def show(path: Path | None, overrides: tuple[str, ...]) -> None:
    """Print the resolved settings as YAML, each with what it means."""
    from experiments.settings import explain_yaml, load_config

    click.echo(explain_yaml(load_config(path, overrides)), nl=False)


@config.command()
@click.option("--page", is_flag=True, help="As tables in Markdown: docs/settings.md.")
def template(page: bool) -> None:
    """Print all settings at their defaults: a file to start your own from."""
    from experiments.settings import default_yaml, settings_page

    click.echo(settings_page() if page else default_yaml(), nl=False)


@main.group()
def data() -> None:
    """Make, import or prepare data sets."""


@data.command()
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--out", type=PATH, default=Path("data/sample"), show_default=True)
def sample(seed: int, out: Path) -> None:
    """Generate the sample bookshop."""
    from recsys.data.sample.bookshop import write_sample

    shop = write_sample(out, seed)
    click.echo(f"{out}: {shop.books.num_rows:,} books, {shop.interactions.num_rows:,} interactions")


@data.command("import")
@click.argument("kind", type=click.Choice(["amazon-2023", "goodbooks", "movielens"]))
@click.argument("source", type=PATH)
@click.argument("destination", type=PATH)
def import_data(kind: str, source: Path, destination: Path) -> None:
    """Turn a published data set in SOURCE into books.csv and users.csv in DESTINATION."""
    from typing import cast

    from recsys.data.importers import DatasetKind, import_dataset

    click.echo(import_dataset(cast("DatasetKind", kind), source, destination))


data.add_command(prepare)


for _command in (bisect, compare, report, runs, recommend, register, rollback, serve, sweep):
    main.add_command(_command)
