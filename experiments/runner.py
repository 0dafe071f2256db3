"""The main job: prepare, train, evaluate, report, and mirror it all to the tracker."""

from __future__ import annotations

import dataclasses
import time
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from experiments.console import RunConsole
from experiments.dataset import check_sources, describe_dataset
from experiments.environment import configure_torch, describe_environment, peak_memory_mb
from experiments.run_directory import RunDirectory
from experiments.signals import Interrupted, held, interruptible
from recsys.addresses import hide_passwords
from recsys.artifacts import make_folder
from recsys.config import Config
from recsys.data.dataset import Prepared, prepare_cached
from recsys.data.sample.bookshop import load_world
from recsys.errors import BookendsError, ConfigError
from recsys.evaluation.evaluation import Evaluation
from recsys.evaluation.held_out import held_out_pairs
from recsys.pipeline import build_refit_trainer, build_trainer, evaluate_model
from recsys.recommender import Recommender
from recsys.reporting.record import (
    HELD_OUT_FILE,
    PER_USER_FILE,
    EpochRecord,
    EvaluationRecord,
    RunRecord,
    RunStatus,
    ScoresRecord,
    write_tables,
)
from recsys.reporting.report import write_report
from recsys.reporting.results import results_of
from recsys.reporting.summary import outcome_sentences
from recsys.training.checkpoint import save_checkpoint
from recsys.training.optimizers import parameter_size
from recsys.training.processes import ALONE, Processes
from recsys.training.trainer import Trainer
from tracking.store import how_to_look, is_server, resolve_uri
from tracking.tracker import TrackedRun, open_run


@dataclass(eq=False)
class _Run:
    """A run under way: the one place where its record changes."""

    config: Config
    directory: RunDirectory
    prepared: Prepared
    trainer: Trainer
    console: RunConsole
    processes: Processes
    record: RunRecord
    started: float
    seconds_before: float
    tracked: TrackedRun | None = None
    refit: Trainer | None = None

    @property
    def tested(self) -> Trainer:
        """Whose model is tested and saved."""
        return self.refit or self.trainer

    def save_checkpoint(self) -> None:
        """Put the state of training on disk."""
        state = {"fingerprint": self.prepared.fingerprint, "trainer": self.trainer.state_dict()}
        if self.refit is not None:
            state["refit"] = self.refit.state_dict()
        save_checkpoint(self.directory.checkpoint_path, state)

    def update(self, **changes: Any) -> None:
        """Change the record and put it on disk."""
        self.record = self.record_with(**changes)
        self.record.write(self.directory.path)

    def record_with(self, **changes: Any) -> RunRecord:
        """The record as it is now, with changes."""
        return dataclasses.replace(
            self.record,
            seconds=self.seconds_before + time.monotonic() - self.started,
            peak_memory_mb=peak_memory_mb(),
            **changes,
        )


def run(
    config: Config,
    console: RunConsole,
    *,
    resume: RunDirectory | None = None,
    processes: Processes = ALONE,
) -> RunRecord:
    """Do the whole job.

    Args:
        config: all settings.
        console: told of the progress.
        resume: the directory of an earlier run to go on with; None makes a new one.
        processes: that train together, of which this is the first; the others :func:`follow`.

    Returns:
        The finished run.

    Raises:
        Interrupted: a signal ended the run; what was done is saved and the record says so.
        BookendsError: something the user can mend.
    """
    started = time.monotonic()
    with interruptible():
        configure_torch(config)
        check_sources(config)
        _check_places(config)
        console.say(f"reading {' and '.join(map(str, config.data.sources.values()))}")
        prepared = processes.after_first(
            lambda: prepare_cached(config.data, config.experiment.seed)
        )
        trainer = build_trainer(config, prepared, processes)
        directory, state = resume, None
        if directory is None:
            directory = RunDirectory.create(config)
        else:
            state = directory.resume(config, describe_dataset(prepared))
        if state is not None:
            trainer.load_state_dict(state["trainer"])
        with directory.in_use():
            processes.from_first(lambda: state)
            earlier = None if resume is None else directory.read_record()
            current = _Run(
                config=config,
                directory=directory,
                prepared=prepared,
                trainer=trainer,
                console=console,
                processes=processes,
                record=_begun(config, directory, prepared, trainer, earlier),
                started=started,
                seconds_before=0.0 if earlier is None else earlier.seconds,
            )
            current.update()
            _announce(current)
            try:
                _open_tracking(current)
                _train(current)
                _refit(current, state)
                with processes.waiting():
                    _evaluate(current)
                    _finish(current, "finished")
            except BaseException as error:
                _end_early(current, error)
                raise
    return current.record


def _check_places(config: Config) -> None:
    """Refuse what could not be written to or reached in principle, before the work."""
    if config.experiment.tracking:
        resolve_uri(config.experiment.tracking_uri)
    report = config.diagnostics.report_path
    if report.suffix == ".html":
        raise ConfigError(
            "'diagnostics.report_path' must name the Markdown report, beside which the HTML report "
            f"goes, got '{report}'"
        )
    for setting, folder in (
        ("diagnostics.report_path", report.parent),
        ("experiment.runs_dir", config.experiment.runs_dir),
    ):
        make_folder(folder, setting)


def _begun(
    config: Config,
    directory: RunDirectory,
    prepared: Prepared,
    trainer: Trainer,
    earlier: RunRecord | None,
) -> RunRecord:
    """The record of a run that begins, or goes on after an earlier session."""
    parameters, n_bytes = parameter_size(trainer.model)
    return RunRecord(
        run_name=directory.name,
        status="running",
        created=datetime.now(UTC).isoformat() if earlier is None else earlier.created,
        config=config.model_dump(mode="json"),
        dataset=describe_dataset(prepared),
        filter_steps=[dataclasses.asdict(step) for step in prepared.filter_steps],
        model_size={"parameters": parameters, "bytes": n_bytes},
        history=[EpochRecord(**dataclasses.asdict(result)) for result in trainer.history],
        environment=describe_environment() | {"precision": trainer.precision},
    )


def _announce(current: _Run) -> None:
    prepared, model = current.prepared, current.config.model
    is_from_data = model.temperature is None and model.similarity == "cosine"
    current.console.heading(f"run {current.directory.name}")
    current.console.say(
        f"{len(prepared.users):,} users, {len(prepared.items):,} items, "
        f"{len(prepared.train):,} train / {len(prepared.validation):,} validation / "
        f"{len(prepared.test):,} test interactions; "
        f"{current.record.model_size['parameters']:,} parameters"
        + (f"; temperature {current.trainer.model.temperature:.4g}" if is_from_data else "")
    )


def _open_tracking(current: _Run) -> None:
    if current.config.experiment.tracking:
        uri = current.config.experiment.tracking_uri
        with held():
            current.tracked = open_run(current.directory.path, uri)


def _held_for(tracked: TrackedRun) -> AbstractContextManager[None]:
    """Signals wait for a database, which an exception cuts in a transaction; not for a server."""
    return nullcontext() if is_server(tracked.tracking_uri) else held()


def describe_evaluation(evaluation: Evaluation) -> EvaluationRecord:
    """What a record says of the evaluation; tables and per-user values lie beside it."""
    model, *baselines = (
        ScoresRecord(**dataclasses.asdict(scores))
        for scores in (evaluation.model, *evaluation.baselines.values())
    )
    return EvaluationRecord(
        split=evaluation.split,
        skipped=evaluation.skipped,
        n_users=evaluation.n_users,
        model=model,
        baselines=dict(zip(evaluation.baselines, baselines, strict=True)),
    )


def _train(current: _Run) -> None:
    trainer, config = current.trainer, current.config
    epochs = trainer.epochs(on_step=current.console.step)
    with closing(epochs), current.console.training(config.training.num_epochs, trainer.n_positives):
        for result in epochs:
            current.save_checkpoint()
            history = [*current.record.history, dataclasses.asdict(result)]
            current.update(history=history, best_epoch=trainer.best_epoch)
            if current.tracked is not None:
                with _held_for(current.tracked):
                    current.tracked.log_epoch(result)
            current.console.epoch(result, config.monitor)
    if current.tracked is not None:
        with _held_for(current.tracked):
            current.tracked.send_epochs()
    current.update(stop_reason=trainer.stop_reason or "", best_epoch=trainer.best_epoch)
    current.console.say(f"{trainer.stop_reason}; best epoch {trainer.best_epoch}")


def refit_trainer(
    config: Config,
    prepared: Prepared,
    trainer: Trainer,
    state: dict[str, Any] | None,
    processes: Processes,
) -> Trainer | None:
    """The trainer of the refit, or None where there is to be none.

    A refit that an earlier session began goes on, unless the first training has gone on since.
    """
    if not config.training.refit or not len(prepared.validation):
        return None
    assert trainer.best_epoch is not None
    refit = build_refit_trainer(config, prepared, trainer.best_epoch, processes)
    n_saved = 0 if state is None else len(state["trainer"]["history"])
    if state is not None and "refit" in state and len(trainer.history) == n_saved:
        refit.load_state_dict(state["refit"])
    return refit


def _refit(current: _Run, state: dict[str, Any] | None) -> None:
    """Train anew on train and validation together, for as many epochs as were best."""
    trainer = current.trainer
    current.refit = refit = refit_trainer(
        current.config, current.prepared, trainer, state, current.processes
    )
    if refit is None or trainer.best_epoch is None:
        return
    current.console.say(
        f"training anew on train and validation together, {trainer.best_epoch} epochs"
    )
    epochs = refit.epochs(on_step=current.console.step)
    with closing(epochs), current.console.training(trainer.best_epoch, refit.n_positives):
        for result in epochs:
            current.save_checkpoint()
            current.console.epoch(result, current.config.monitor)
    current.update(
        refit={
            "epochs": len(refit.history),
            "positives": refit.n_positives,
            "seconds": sum(result.seconds for result in refit.history),
        }
    )


def _evaluate(current: _Run) -> None:
    current.tested.restore_best()
    paths, world = current.config.data.source_paths, None
    if "books" in paths:
        world = load_world(paths["books"], paths["interactions"])
    outcome = evaluate_model(
        current.tested.model,
        current.prepared,
        current.config,
        world,
        refit=current.refit is not None,
    )
    if outcome.evaluation.skipped is None:
        current.directory.write_frame(PER_USER_FILE, outcome.evaluation.per_user)
        current.directory.write_frame(HELD_OUT_FILE, held_out_pairs(current.prepared))
    tables = write_tables(current.directory.path, outcome.tables)
    provenance = {
        "run_name": current.directory.name,
        "fingerprint": current.prepared.fingerprint,
        "git_commit": current.record.environment["git_commit"],
    }
    Recommender.of(
        outcome.vectors,
        current.prepared,
        provenance,
        model=current.tested.model,
        config=current.config,
    ).save(current.directory.path / "model")
    evaluation = describe_evaluation(outcome.evaluation)
    current.update(evaluation=evaluation, oracle=outcome.oracle, tables=tables)
    results = results_of(current.record)
    if results is None:
        current.console.say(f"evaluation was skipped: {evaluation.skipped}")
    else:
        current.console.results(results, current.config.evaluation.metrics_k)
    by_name = {table.name: table for table in outcome.tables}
    for sentence in outcome_sentences(current.record, by_name):
        current.console.say(sentence)


def _finish(current: _Run, status: RunStatus, error: str | None = None) -> None:
    final = current.record_with(status=status, error=error)
    # a run that ended early leaves the last good report in its place
    also = current.config.diagnostics.report_path if status == "finished" else None
    if status != "finished":
        final.write(current.directory.path)  # first: a full disk may have room for no more
    report, _ = write_report(current.directory.path, also=also, record=final)
    final.write(current.directory.path)  # last: who reads it as finished finds all of the run
    current.record = final
    sent = None
    if current.tracked is not None:
        with _held_for(current.tracked):
            sent = current.tracked.close()
    shown = also or report
    places = {
        "report": f"{shown} and {shown.with_suffix('.html').name} beside it",
        "run": str(current.directory.path),
    }
    if sent is not None:
        places |= how_to_look(sent.tracking_uri, sent.experiment_id, sent.run_id)
    current.console.where(places)


def _end_early(current: _Run, error: BaseException) -> None:
    if isinstance(error, Interrupted):
        done = len(current.record.history)
        current.console.say(
            f"{error}: epochs saved: {done}; go on with "
            f"'bookends run --resume {current.directory.path}'"
        )
        _finish(current, "interrupted", f"ended by {error}")
    else:
        line = hide_passwords(str(error)).splitlines()[0] if str(error) else type(error).__name__
        name = "" if isinstance(error, BookendsError) else f"{type(error).__name__}: "
        _finish(current, "failed", f"{name}{line}")
