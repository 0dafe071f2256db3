"""The study is the source and MLflow its mirror: what a store missed while it was away is sent."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from experiments.sweep_session import Session
from experiments.sweep_worker import LIMITS, Stage, tags_of, title_of
from recsys.errors import BookendsError
from sweeps.record import TrialRecord
from sweeps.settings import COSTS
from sweeps.study import DEFAULT, LOST, SweepStudy
from tracking.mirror import mirror
from tracking.trial_runs import EndedTrial

logger = logging.getLogger(__name__)


def deliver_trials(session: Session) -> None:
    """Send the trials of all stages that the store lacks, or shows otherwise than they ended."""
    if session.tracked is not None:
        session.tracked.deliver(list(_ended(session)))


def deliver_winner(session: Session) -> None:
    """Send the winner's run, unless the store holds it whole."""
    if session.tracked is None or session.best_run_name is None:
        return
    run_dir = session.base.experiment.runs_dir / session.best_run_name
    if not run_dir.is_dir():  # on the machine that ran it
        return
    try:
        mirror(run_dir, session.tracked.uri)
    except BookendsError as error:
        logger.warning("%s; the same command sends it later", error)


def _ended(session: Session) -> Iterator[EndedTrial]:
    limits = session.main.attribute(LIMITS)
    for stage in ("share", "search", "finalists"):
        if not limits[stage]:
            continue
        study = session.stage(stage)
        by_number = {trial.number: trial for trial in study.trials()}
        for record in session.trials(study):
            if record.state != "running" and record.error != LOST:
                yield _told(session, stage, study, record, by_number[record.number])


def _told(
    session: Session, stage: Stage, study: SweepStudy, record: TrialRecord, trial: Any
) -> EndedTrial:
    settings = session.settings
    params = record.params
    if study.space is None:
        params = trial.user_attrs["settings"]
    elif DEFAULT not in trial.user_attrs:
        params = study.space.settings(params)
    tags = tags_of(study, trial, record.worker or "", is_share=stage == "share")
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
