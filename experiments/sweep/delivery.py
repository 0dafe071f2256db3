"""The study is the source and MLflow its mirror: what a store missed while it was away is sent."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from optuna.trial import FrozenTrial

from experiments.sweep.opening import reopen
from experiments.sweep.session import Session, describe, open_run, progress_points
from experiments.sweep.shipping import digests
from experiments.sweep.state import settings_of, tags_of, title_of
from recsys.data.dataset import cache_path
from recsys.errors import BookendsError, ConfigError, TrackingError
from recsys.reporting.results import one_held_out
from sweeps.findings import Numbers
from sweeps.on_test import winners_looks
from sweeps.record import SweepRecord, TrialRecord
from sweeps.settings import COSTS, SweepSettings
from sweeps.study import Stage, SweepStudy
from tracking.mirror import mirror
from tracking.payload import compared_metrics
from tracking.store import STORE_ERRORS, explain, is_server, resolve_uri, without_password
from tracking.sweep import SweepRun
from tracking.trial_runs import EndedTrial

logger = logging.getLogger(__name__)


def send_sweep(
    sweep_dir: Path, *, tracking_uri: str | None = None, storage: str | None = None
) -> SweepRun:
    """Send MLflow all that it lacks of a sweep that ended or was killed; nothing is trained.

    Args:
        sweep_dir: of the sweep.
        tracking_uri: the store; None takes that of the sweep.
        storage: address of the study; None takes that of the sweep.

    Raises:
        ConfigError: the sweep may run still, or the address of its study lacks its password.
        TrackingError: the store is away, or failed before it held all.
    """
    record = SweepRecord.read(sweep_dir)
    session = reopen(sweep_dir, record, storage)
    how, why = str(record.status), record.error
    try:
        if record.status == "running":
            _refuse_while_running(session)
            record, how, why = session.record("running"), "killed", "its process is gone"
        try:
            session.tracked = open_run(session, tracking_uri)
        except STORE_ERRORS as error:
            uri = resolve_uri(tracking_uri or session.base.experiment.tracking_uri)
            raise TrackingError(f"{sweep_dir}: could not be sent ({explain(error, uri)})") from None
        deliver_sweep(session, record)
        session.tracked.send_tags({"mlflow.note.content": describe(record)})
        session.tracked.finish(how, why)
    finally:
        session.storage.close()
    if session.tracked.failures:
        raise TrackingError(
            f"{sweep_dir}: {without_password(session.tracked.uri)} could not "
            f"{', '.join(session.tracked.failures)}; the same command sends what is left"
        )
    return session.tracked


def _refuse_while_running(session: Session) -> None:
    owner = session.state.owner
    if owner is None or owner.life() != "dead":
        process = "a process" if owner is None else f"process {owner.pid} on {owner.host}"
        raise ConfigError(
            f"{session.directory.path}: the sweep must have ended, but {process} runs it, or was "
            "killed where that cannot be told; the command that began it, given again, goes on and "
            "sends what MLflow lacks"
        )


def deliver_sweep(session: Session, record: SweepRecord) -> None:
    """Send the trials, the winner's run, what was found and the files, as far as they lack."""
    tracked = session.tracked
    if tracked is None:
        return
    tracked.failures.clear()  # what earlier calls could not send goes out now
    deliver_trials(session)
    tracked.send_progress(progress_points(record))
    deliver_winner(session, record.best_run_name)
    fair, full = winners_looks(record)
    look = fair or full  # the run in full has a run of its own
    if look is not None:
        tracked.send_metrics("test", _compared(record, look.metrics))
    tracked.send_files(session.directory.path)


def _compared(record: SweepRecord, metrics: Numbers) -> Numbers:
    """Of the metrics on test those that a run is sent with."""
    one = one_held_out(record.dataset, "test")
    names = compared_metrics(metrics, record.objectives[0].metric, one_held_out=one)
    return {name: metrics[name] for name in names}


def deliver_trials(session: Session) -> None:
    """Send the trials of all stages that the store lacks, or shows otherwise than they ended.

    Those that it shows as running although their process is gone are ended.
    """
    if session.tracked is not None:
        session.tracked.deliver(list(_ended_trials(session)))


def upload_data(session: Session) -> None:
    """Have the prepared data set where workers on other machines can fetch it."""
    folder, tracked = cache_path(session.base.data, session.prepared.fingerprint), session.tracked
    found = digests(folder)
    files = {folder / name: digest for name, digest in found.items()}
    if tracked is None or not tracked.send_data(files, session.state.uploaded):
        logger.warning("the prepared data were not uploaded: workers elsewhere need their files")
        return
    session.keep(uploaded=found)
    for what, uri in (("study", session.storage.url), ("tracking store", tracked.uri)):
        if not is_server(uri) and urlsplit(uri).hostname is None:
            logger.warning(
                "the %s must be reached by workers elsewhere, for which '--upload-data' is, but is "
                "in %s",
                what,
                uri,
            )


def deliver_winner(session: Session, run_name: str | None) -> None:
    """Send the winner's run, unless the store holds it whole."""
    if session.tracked is None or run_name is None:
        return
    session.tracked.send_tags({"bookends.best_run": run_name})
    run_dir = session.base.experiment.runs_dir / run_name
    if not run_dir.is_dir():  # on the machine that ran it
        return
    try:
        mirror(run_dir, session.tracked.uri)
    except BookendsError as error:
        session.tracked.failures.append("take the winner's run")
        logger.warning("%s", error)


def _ended_trials(session: Session) -> Iterator[EndedTrial]:
    limits = session.state.limits
    stages: tuple[Stage, ...] = ("share", "search", "finalists")
    for stage in stages:
        if not limits[stage]:
            continue
        study = session.stage(stage)
        trials = study.trials()
        for record in study.records():
            if record.state != "running" and not record.is_lost:
                yield _ended_trial(session.settings, study, record, trials[record.number])


def _ended_trial(
    settings: SweepSettings, study: SweepStudy, record: TrialRecord, trial: FrozenTrial
) -> EndedTrial:
    params = settings_of(study, trial, record.params) or record.params
    tags = tags_of(study, trial, record.worker or "")
    said = {"bookends.stop_reason": record.stop_reason, "bookends.error": record.error or ""}
    return EndedTrial(
        number=record.number,
        name=title_of(study, trial),
        how=record.state,  # type: ignore[arg-type]  # no longer running
        params=params,
        summary={name: record.metrics.get(name) for name in [*settings.measures, *COSTS]},
        epochs={n: v for n, v in record.intermediate.items() if v is not None},
        monitored=settings.pruning_metric or settings.objectives[0].metric,
        tags=tags | {name: value for name, value in said.items() if value},
    )
