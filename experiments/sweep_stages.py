"""The trials of a sweep: workers kept alive, the lost mended, the first stage's best promoted."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from experiments.sweep_session import Session, queue_first
from experiments.sweep_worker import (
    LIMITS,
    STAGE,
    Stage,
)
from experiments.worker_pool import WorkerPool
from recsys.artifacts import locked
from recsys.errors import BookendsError
from sweeps.agreement import rank_agreement
from sweeps.record import RankAgreement, TrialRecord
from sweeps.settings import SweepSettings
from sweeps.study import (
    BEGIN,
    DEFAULT,
    SweepStudy,
    lost_trials,
)
from tracking.processes import Owner

POLL_SECONDS = 0.25
TELL_SECONDS = 1.0
"""The record and the tracker follow the study at most so often: workers need the cores."""
MEND_SECONDS = 5.0
UNCLAIMED_SECONDS = 30.0
"""A trial that nobody has said to run for so long was lost before that could be said."""


def run_stages(session: Session) -> None:
    """Run the trials: on a share of the readers first where that was asked for, then on all."""
    settings = session.settings
    if settings.user_share is not None:
        share = session.stage("share")
        run_stage(session, "share", share, f"trials on {settings.user_share:.0%} of the readers")
        with locked(session.directory.lock_path):
            promote(session, share)
            session.main.keep(STAGE, "search")
    run_stage(session, "search", session.main, f"sweep {session.directory.name}")
    if settings.user_share is not None:
        session.fidelity = agreement(session, session.stage("share"))


def run_stage(session: Session, stage: Stage, study: SweepStudy, title: str) -> None:
    """Let workers run the trials of a stage until every place is held by one that ended."""
    trials = session.trials(study)
    with (
        session.console.trials(title, session.settings.objectives, trials),
        WorkerPool(
            directory=session.directory,
            stage=stage,
            storage=session.storage.url,
            tracking_uri=None if session.tracked is None else session.tracked.uri,
            n_workers=session.settings.workers,
        ) as pool,
    ):
        mend(session, study)
        _mend_tracker(session)
        for _ in _beats(session, study, pool):
            trials = session.trials(study)
            session.console.show(trials, study.limit)
            if stage == "search":
                _tell(session, trials)
    mend(session, study)


def _beats(session: Session, study: SweepStudy, pool: WorkerPool) -> Iterator[None]:
    """Keep workers alive while there is something to do; yields now and then, and at the end."""
    mended = told = time.monotonic()
    ended = -1
    while not study.is_done():
        died = pool.collect()
        if died or time.monotonic() - mended > MEND_SECONDS:
            mend(session, study)
            mended = time.monotonic()
        if pool.is_exhausted:
            raise BookendsError(
                "workers die again and again; the last words of each are in "
                f"{session.directory.path / 'logs'}"
            )
        if _is_work_left(study):
            pool.start(pool.n_running + study.n_free(queued=False))
        elif pool.n_running == 0 and not _is_awaited(study):
            break
        n_ended = sum(trial.state.is_finished() for trial in study.trials())
        if n_ended != ended and time.monotonic() - told > TELL_SECONDS:
            ended, told = n_ended, time.monotonic()
            yield
        time.sleep(POLL_SECONDS)
    yield


def _is_work_left(study: SweepStudy) -> bool:
    return study.n_free(queued=False) > 0


def _is_awaited(study: SweepStudy) -> bool:
    """Whether a trial runs that this machine can tell to be alive, or will in time."""
    running = [trial for trial in study.trials() if trial.state.name == "RUNNING"]
    return any(
        (owner := _owner(trial.user_attrs.get(BEGIN, {}))) is None
        or owner.life() == "alive"
        or study.storage.has_heartbeat
        for trial in running
    )


def mend(session: Session, study: SweepStudy) -> None:
    """Mark the trials whose process is gone, in the study and in the tracker, and queue them."""
    now = datetime.now(UTC)

    def is_dead(trial: Any) -> bool:
        owner = _owner(trial.user_attrs.get(BEGIN, {}))
        if owner is None:
            age = now - trial.datetime_start.astimezone(UTC)
            return bool(age.total_seconds() > UNCLAIMED_SECONDS)
        return owner.life() == "dead"

    for trial in lost_trials(study, is_dead):
        note = trial.user_attrs.get(BEGIN, {})
        if study.lose(trial.number):
            reason = f"worker {note.get('worker', '?')} was lost"
            session.console.say(f"trial {trial.number} is run again: {reason}")
            if session.tracked is not None:
                session.tracked.end_lost(note.get("run_id"), reason)
    study.queue_lost()


def _mend_tracker(session: Session) -> None:
    """End the runs of trials whose process died before the study could learn of them."""
    if session.tracked is None:
        return
    for run_id, number, owner in session.tracked.running_trials():
        if owner is not None and owner.life() == "dead":
            session.tracked.end_lost(run_id, f"the process of trial {number} is gone")


def promote(session: Session, share: SweepStudy) -> None:
    """Queue the default and the best configurations of the first stage to be run on all readers."""
    study = session.main
    if study.trials():
        return
    assert study.space is not None and share.space is not None
    by_number = {trial.number: trial for trial in share.trials()}
    record = dataclasses.replace(
        session.record("running"), trials=session.trials(share, session.settings.user_share or 1.0)
    )
    queue_first(session, study)
    best = [trial for trial in record.ranked() if DEFAULT not in by_number[trial.number].user_attrs]
    chosen = best[: session.settings.promoted]
    for trial in chosen:
        study.queue(dict(trial.params), promoted_from=trial.number)
    study.limit = 1 + len(chosen)
    study.keep(LIMITS, study.attribute(LIMITS) | {"search": study.limit})


def agreement(session: Session, share: SweepStudy) -> RankAgreement:
    """How alike both fidelities rank the configurations that were run on both."""
    low = {trial.number: trial.values for trial in session.trials(share)}
    default = next((t.number for t in share.trials() if DEFAULT in t.user_attrs), -1)
    high = {
        trial.user_attrs.get("promoted_from", default): trial.values
        for trial in session.main.trials()
        if trial.values is not None and trial.state.name == "COMPLETE"
    }
    return rank_agreement(
        {number: None if values is None else values[0] for number, values in low.items()},
        {number: None if values is None else values[0] for number, values in high.items()},
        low_fidelity=f"{session.settings.user_share:.0%} of the readers",
        high_fidelity="all readers",
    )


def _tell(session: Session, trials: Sequence[TrialRecord]) -> None:
    session.record("running").write(session.directory.path)
    if session.tracked is not None:
        session.tracked.send_progress(progress_points(session.settings, trials))


def progress_points(
    settings: SweepSettings, trials: Sequence[TrialRecord]
) -> list[dict[str, float]]:
    """The series of a sweep: what was known after each trial, in the order in which they ended."""
    ended = sorted(
        (trial for trial in trials if trial.ended is not None and trial.state != "running"),
        key=lambda trial: (trial.ended or "", trial.number),
    )
    objective = settings.objectives[0]
    better = max if objective.direction == "maximize" else min
    counts = dict.fromkeys(("complete", "pruned", "failed"), 0)
    best: float | None = None
    points = []
    for trial in ended:
        counts[trial.state] += 1
        feasible = all(
            rule.is_met(trial.constraints.get(rule.metric)) for rule in settings.constraints
        )
        if trial.values is not None and feasible:
            best = trial.values[0] if best is None else better(best, trial.values[0])
        point = {f"n_{state}": float(count) for state, count in counts.items()}
        if best is not None:
            point["best_so_far"] = best
        points.append(point)
    return points


def _owner(note: dict[str, Any]) -> Owner | None:
    return Owner(**note["owner"]) if note.get("owner") else None
