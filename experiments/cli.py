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
from experiments.commands.runs import runs
from experiments.commands.serve import serve
from experiments.commands.words import RunPath, SettingsCommand, SweepCommand, complete
from experiments.signals import Interrupted
from recsys.addresses import hide_passwords
from recsys.errors import BookendsError

PATH = click.Path(path_type=Path)
RUN, SWEEP = RunPath("runs"), RunPath("sweeps")
PDF = click.option("--pdf", is_flag=True, help="As a PDF too; needs the extra 'pdf'.")
OVERRIDES = {"ignore_unknown_options": True, "allow_interspersed_args": True}


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
@click.option("--resume", type=RUN, help="Run directory of a run to go on with.")
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
    from experiments.console import RunConsole
    from experiments.processes import follow, training_processes
    from experiments.run_directory import RunDirectory
    from experiments.runner import run as run_job
    from experiments.settings import load_config

    if config is not None and resume is not None:
        raise click.UsageError("--resume takes the settings of the run; --config is not for it")
    directory = None if resume is None else RunDirectory.open(resume)
    settings = load_config(config if directory is None else directory.config_path, overrides)
    if prepared:
        from recsys.data.dataset import check_prepared

        check_prepared(settings.data, settings.experiment.seed)
    with training_processes(processes, settings) as together:
        if not together.is_first:
            follow(settings, together)
            return
        console = RunConsole()
        console.logging_to_console()
        run_job(settings, console, resume=directory, processes=together)


@main.command()
@click.argument("run_dir", type=RUN)
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
    if summary:
        if pdf:
            raise click.UsageError("--summary writes no report; --pdf is not for it")
        from experiments.job_summary import job_summary

        click.echo(job_summary(run_dir, name or "bookends", tracking_uri), nl=False)
        return
    if name is not None or tracking_uri is not None:
        raise click.UsageError("--name and --tracking-uri are for --summary")
    from recsys.reporting.record import RunRecord
    from recsys.reporting.report import write_report

    report_path = RunRecord.read(run_dir).config["diagnostics"]["report_path"]
    _say_written(write_report(run_dir, also=Path(report_path)), pdf)


def _say_written(report: tuple[Path, Path], pdf: bool) -> None:
    """Name the files of a report, its PDF among them where one is wanted."""
    from recsys.reporting.pdf import write_pdf

    for path in (*report, *([write_pdf(report[1])] if pdf else [])):
        click.echo(path)


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
    for run in found.mended:
        click.echo(f"ended   {run.run_id}  {run.name}: {run.reason}")
    for run in found.left:
        click.echo(f"left    {run.run_id}  {run.name}: {run.reason}")
    click.echo(f"runs ended: {len(found.mended)}, left as they are: {len(found.left)}")


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


class _StartByDefault(click.Group):
    """Runs 'start' where no other of its commands is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        is_completed = ctx.resilient_parsing and not args
        if not is_completed and (not args or args[0] not in self.commands):
            args = ["start", *args]
        return super().parse_args(ctx, args)


@main.group(cls=_StartByDefault)
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
@click.option(
    "--launcher",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Workers on this machine, or on a Ray cluster.",
)
@click.option("--ray-address", help="auto, HOST:PORT or ray://HOST:PORT.  [default: auto]")
@click.option("--cpus-per-worker", type=float, help="Reserved on the cluster.  [default: 1]")
@click.option("--gpus-per-worker", type=float, help="Reserved on the cluster.  [default: 0]")
@click.option(
    "--ray-cache-dir",
    type=PATH,
    help="Where machines keep the data set.  [default: data.cache_dir of this one]",
)
@click.option(
    "--ray-listen",
    metavar="ADDRESS",
    help="Of this machine, for workers to reach.  [default: 127.0.0.1 or what others see]",
)
@click.option("--name", help="Of the sweep; default from the space and a digest of all settings.")
@click.option("--storage", envvar="BOOKENDS_STORAGE", help="Of the study; default a journal file.")
@click.option(
    "--sampler",
    help="tpe, random, grid, gp, qmc, cmaes, nsgaii or optunahub:PACKAGE.  [default: tpe]",
)
@click.option("--startup-trials", type=int, help="Drawn at random first.  [default: 10]")
@click.option("--pruner", help="none, median, percentile, asha, hyperband or patient.")
@click.option("--objective", "objectives", multiple=True, help="METRIC[:maximize|:minimize].")
@click.option("--constraint", "constraints", multiple=True, help="Such as 'train_seconds<=60'.")
@click.option(
    "--warm-from",
    multiple=True,
    metavar="SWEEP_DIR|EXPERIMENT",
    help="Run the best of earlier sweeps first.",
)
@click.option("--seed", type=int, help="Of the search.  [default: 0]")
@click.option("--user-share", type=float, help="Run all on this share of the users first.")
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
    "--sweeps-dir", type=PATH, default=Path("artifacts/sweeps"), show_default=True, help="Where."
)
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED)
def start(
    space: Path,
    config: Path | None,
    sweeps_dir: Path,
    name: str | None,
    storage: str | None,
    overrides: tuple[str, ...],
    launcher: Any,
    **options: Any,
) -> None:
    """Search a space: the same command again goes on where it was.

    Any setting that does not vary can be given by its dotted name, as for 'bookends run'.
    """
    from experiments.signals import Interrupted
    from experiments.sweep.console import SweepConsole
    from experiments.sweep.launcher import Launcher
    from experiments.sweep.opening import read_request
    from experiments.sweep.parent import sweep as sweep_job

    names = Launcher.__dataclass_fields__.keys() & options
    chosen = Launcher(launcher, **{name: options.pop(name) for name in names})
    request = read_request(
        space,
        config,
        overrides,
        options,
        name=name,
        storage=storage,
        sweeps_dir=sweeps_dir,
    )
    console = SweepConsole()
    console.logging_to_console()
    try:
        sweep_job(request, console, chosen)
    except Interrupted as interrupted:
        sys.exit(interrupted.exit_code)


@sweep.command(context_settings=OVERRIDES)
@click.option("--study", required=True, help="Name of the sweep.")
@click.option("--storage", envvar="BOOKENDS_STORAGE", required=True, help="Where its study is.")
@click.option("--stage", type=click.Choice(["share", "search", "finalists"]), hidden=True)
@click.option("--index", type=int, default=0, hidden=True)
@click.option("--parent", type=int, hidden=True)
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED)
def worker(
    study: str,
    storage: str,
    stage: Any,
    index: int,
    parent: int | None,
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
        n_trials = join(
            Assignment(study, storage, stage, index, parent), parse_overrides(overrides)
        )
    except Interrupted as interrupted:
        sys.exit(interrupted.exit_code)
    click.echo(f"{n_trials} trials run; none is left")


@sweep.command("report")
@click.argument("sweep_dir", type=SWEEP)
@PDF
def sweep_report(sweep_dir: Path, pdf: bool) -> None:
    """Write the report of a sweep again from what its directory holds."""
    from sweeps.report import write_sweep_report

    _say_written(write_sweep_report(sweep_dir), pdf)


complete(start, ("sampler", "pruner"))
for _command in (bisect, compare, runs, recommend, register, rollback, serve):
    main.add_command(_command)
