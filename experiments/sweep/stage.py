"""A stage of a sweep: workers are kept alive until as many trials as the limit have ended."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from optuna.trial import FrozenTrial

from experiments.signals import Interrupted, held
from experiments.sweep.delivery import deliver_trials
from experiments.sweep.pool import Pool, life_of
from experiments.sweep.session import Session, progress_points
from recsys.errors import BookendsError
from recsys.reporting.formatting import duration, number
from sweeps.settings import UNLIMITED
from sweeps.study import ERROR, Stage, SweepStudy
from sweeps.trials import BEGIN

POLL_SECONDS = 0.25
TELL_SECONDS = 1.0
"""The record and the tracker follow the study at most so often: workers need the cores."""
REQUEUE_SECONDS = 5.0
UNCLAIMED_SECONDS = 30.0
"""A trial that nobody has said to run for so long was lost before that could be said."""


def run_stage(
    session: Session, stage: Stage, title: str, asked: threading.Event | None = None
) -> None:
    """Let workers run the trials of a stage until as many as its limit have ended.

    Args:
        session: of the sweep.
        stage: which.
        title: shown over its trials.
        asked: set where the user would have it end now.
    """
    study = session.stage(stage)
    with held():
        pool = session.new_pool(session, stage)
    with session.console.trials(title, session.settings.objectives, study.records()), pool:
        requeue_lost(session, study)
        deliver_trials(session)  # what the store missed while it was away
        for _ in _supervise(session, study, pool, asked):
            outlook = "" if stage == "finalists" else _outlook(study)
            session.console.show(study.records(), study.limit, outlook)
            if stage == "search":
                record = session.record("running")
                record.write(session.directory.path)
                if session.tracked is not None:
                    session.tracked.send_progress(progress_points(record))
    requeue_lost(session, study)


def _outlook(study: SweepStudy) -> str:
    """How much of the search is left, and what to expect of it, in a line."""
    n_left = study.n_left()
    if n_left == 0:
        return ""
    n_ended = study.search_end().n_trials
    settings, spent = study.settings, study.spent_seconds()
    seconds = n_left * spent / n_ended if n_ended else None
    if settings.seconds is not None:
        rest = max(0.0, settings.seconds - spent)
        seconds = rest if seconds is None or study.limit >= UNLIMITED else min(rest, seconds)
    parts = [] if seconds is None else [f"{duration(seconds)} left"]
    if study.limit < UNLIMITED or n_ended:
        parts.insert(0, f"{n_left:,} trial{'' if n_left == 1 else 's'} left")
    if (gain := study.expected_gain(n_left)) is not None:
        parts.append(f"the best is expected to gain {number(gain)}")
    if settings.stops and (error := study.kept().get(ERROR)) is not None:
        parts.append(f"ends below {number(error)}")
    return ", ".join(parts)


def _supervise(
    session: Session, study: SweepStudy, pool: Pool, asked: threading.Event | None
) -> Iterator[None]:
    """Keep workers alive while there is something to do; yields now and then, and at the end."""
    requeued = told = time.monotonic()
    ended = -1
    while not study.is_done():
        if asked is not None and asked.is_set():
            if not any(trial.state.name == "COMPLETE" for trial in study.trials()):
                raise Interrupted(signal.SIGINT)  # there is nothing to go on with
            study.keep_end(asked=True)
            break
        died = pool.collect()
        if died or time.monotonic() - requeued > REQUEUE_SECONDS:
            requeue_lost(session, study, pool.names)
            requeued = time.monotonic()
        if pool.is_exhausted:
            raise BookendsError(
                "workers die again and again; the last words of each are in "
                f"{session.directory.path / 'logs'}"
            )
        n_free = study.n_free()
        if n_free > 0:
            pool.start(pool.n_running + n_free)
        elif pool.n_running == 0 and not _is_awaited(study):
            break
        n_ended = sum(trial.state.is_finished() for trial in study.trials())
        if n_ended != ended and time.monotonic() - told > TELL_SECONDS:
            ended, told = n_ended, time.monotonic()
            yield
        time.sleep(POLL_SECONDS)
    study.keep_end()
    yield


def _is_awaited(study: SweepStudy) -> bool:
    """Whether a trial runs that this machine can tell to be alive, or will in time."""
    running = [trial for trial in study.trials() if trial.state.name == "RUNNING"]
    lives = [life_of(trial.user_attrs.get(BEGIN, {})) for trial in running]
    return any(life in (None, "alive") or study.storage.has_heartbeat for life in lives)


def requeue_lost(session: Session, study: SweepStudy, running: Iterable[str] = ()) -> None:
    """Mark the trials whose process is gone, in the study and in the tracker, and queue them.

    Args:
        session: of the sweep.
        study: of the stage.
        running: names of the workers' starts that run, where they have names.
    """
    now = datetime.now(UTC)

    def is_dead(trial: FrozenTrial) -> bool:
        life = life_of(trial.user_attrs.get(BEGIN, {}), running)
        if life is None:
            assert trial.datetime_start is not None  # it runs
            age = now - trial.datetime_start.astimezone(UTC)
            return age.total_seconds() > UNCLAIMED_SECONDS
        return life == "dead"

    for trial in study.end_lost(is_dead):
        note = trial.user_attrs.get(BEGIN, {})
        reason = f"worker {note.get('worker', '?')} was lost"
        session.console.say(f"trial {trial.number} is run again: {reason}")
        if session.tracked is not None:
            session.tracked.end_lost(note.get("run_id"), reason)
