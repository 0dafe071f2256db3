"""The parent of a sweep: keeps workers alive, has lost trials run again, brings it to its end.

A sweep goes through its stages (a share of the users, all users, finalists); each of them, done
again, goes on where it was.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from optuna.trial import FrozenTrial

from experiments.launcher import LOCAL, Launcher, ray_imported
from experiments.signals import Interrupted, first_sigint_to, held, interruptible
from experiments.sweep.console import SweepConsole
from experiments.sweep.delivery import deliver_trials, upload_data
from experiments.sweep.finish import finish, measure_error
from experiments.sweep.first import queue_default
from experiments.sweep.local import local_pool
from experiments.sweep.opening import SweepRequest, begin
from experiments.sweep.pool import Pool, life_of
from experiments.sweep.session import Session, progress_points
from experiments.sweep.state import Stage
from recsys.addresses import hide_passwords
from recsys.artifacts import locked
from recsys.errors import BookendsError
from sweeps.agreement import rank_agreement
from sweeps.ending import UNLIMITED
from sweeps.finalists import DEFAULT_TRIAL
from sweeps.findings import RankAgreement
from sweeps.record import SweepRecord, SweepStatus
from sweeps.study import ERROR, SweepStudy
from sweeps.summary import outlook, why_ended
from sweeps.trials import BEGIN, ORIGIN
from tracking.processes import Life

POLL_SECONDS = 0.25
TELL_SECONDS = 1.0
"""The record and the tracker follow the study at most so often: workers need the cores."""
MEND_SECONDS = 5.0
UNCLAIMED_SECONDS = 30.0
"""A trial that nobody has said to run for so long was lost before that could be said."""
logger = logging.getLogger(__name__)


def sweep(request: SweepRequest, console: SweepConsole, launcher: Launcher = LOCAL) -> SweepRecord:
    """Do a whole sweep, or what is left of it.

    Returns:
        The finished sweep.

    Raises:
        Interrupted: a signal ended it; the same command goes on.
        BookendsError: something the user can mend.
    """
    with interruptible(), launching(launcher) as new_pool:
        session = begin(request, console)
        session.new_pool = new_pool
        try:
            with locked(session.directory.lock_path):
                if request.upload_data:
                    with session.part("start-up"):
                        upload_data(session)
                measure_error(session, run_stage)
            with session.part("search"):
                run_trials(session)
            with locked(session.directory.lock_path):
                finish(session, run_stage)
        except BaseException as error:
            _end_early(session, error)
            raise
        finally:
            session.storage.close()
    return SweepRecord.read(session.directory.path)


@contextmanager
def launching(launcher: Launcher) -> Iterator[Callable[[Session, Stage], Pool]]:
    """What makes the pools of a sweep, until the block ends.

    Raises:
        ConfigError: the extra is not installed, or no cluster answers.
    """
    launcher.check()
    if launcher.name == "local":
        yield local_pool
        return
    with ray_imported():
        from experiments.sweep.ray_cluster import connected
    with connected(launcher) as cluster:
        yield cluster.pool


def _end_early(session: Session, error: BaseException) -> None:
    status: SweepStatus = "failed"
    if isinstance(error, Interrupted):
        status = "interrupted"
        session.console.say(f"{error}: {session.n_ended} trials are kept; the same command goes on")
    line = (hide_passwords(str(error)).splitlines() or [""])[0] or type(error).__name__
    with contextlib.suppress(BookendsError):
        session.record(status, line).write(session.directory.path)
        session.close(status, line)


def run_trials(session: Session) -> None:
    """Run the trials: on a share of the users first where that was asked for, then on all."""
    share = session.settings.user_share
    if share is None:
        _search(session, "search", session.main, f"sweep {session.directory.name}")
        return
    cheap = session.stage("share")
    _search(session, "share", cheap, f"trials on {share:.0%} of the users")
    with locked(session.directory.lock_path):
        promote(session, cheap)
        session.keep(stage="search")
    run_stage(session, "search", session.main, f"sweep {session.directory.name}")
    session.fidelity = agreement(session, cheap)


def _search(session: Session, stage: Stage, study: SweepStudy, title: str) -> None:
    """Run the trials that the sampler draws, until something ends them; keeps what did.

    The first Ctrl-C ends them as the end of the budget does, where there is anything to go on with.
    """
    settings, asked = session.settings, threading.Event()
    goes_on = settings.finalists > 0 or settings.final_run
    with first_sigint_to(asked.set) if goes_on else contextlib.nullcontext():
        run_stage(session, stage, study, title, asked)
    end = study.search_end()
    session.keep(search_end=end)
    session.console.say(why_ended(end, settings.objectives[0].metric))


def run_stage(
    session: Session,
    stage: Stage,
    study: SweepStudy,
    title: str,
    asked: threading.Event | None = None,
) -> None:
    """Let workers run the trials of a stage until every place is held by one that ended.

    Args:
        session: of the sweep.
        stage: which.
        study: of the stage.
        title: shown over its trials.
        asked: set where the user would have it end now.
    """
    with held():
        pool = session.new_pool(session, stage)
    with session.console.trials(title, session.settings.objectives, study.records()), pool:
        mend(session, study)
        deliver_trials(session)  # what the store missed while it was away
        for _ in _supervise(session, study, pool, asked):
            outlook = "" if stage == "finalists" else _outlook(study)
            session.console.show(study.records(), study.limit, outlook)
            if stage == "search":
                record = session.record("running")
                record.write(session.directory.path)
                if session.tracked is not None:
                    session.tracked.send_progress(progress_points(record))
    mend(session, study)


def _outlook(study: SweepStudy) -> str:
    """How much of the search is left, and what to expect of it."""
    n_left = study.n_left()
    if n_left == 0:
        return ""
    n_ended = study.search_end().n_trials
    limits, spent = study.limits, study.spent_seconds()
    seconds = n_left * spent / n_ended if n_ended else None
    if limits.seconds is not None:
        rest = max(0.0, limits.seconds - spent)
        seconds = rest if seconds is None or study.limit >= UNLIMITED else min(rest, seconds)
    return outlook(
        None if study.limit >= UNLIMITED and not n_ended else n_left,
        seconds,
        study.forecast(),
        study.kept().get(ERROR) if limits.ends_in_noise else None,
    )


def _supervise(
    session: Session, study: SweepStudy, pool: Pool, asked: threading.Event | None
) -> Iterator[None]:
    """Keep workers alive while there is something to do; yields now and then, and at the end."""
    mended = told = time.monotonic()
    ended = -1
    while not study.is_done():
        if asked is not None and asked.is_set():
            if not any(trial.state.name == "COMPLETE" for trial in study.trials()):
                raise Interrupted(signal.SIGINT)  # there is nothing to go on with
            study.keep_end(asked=True)
            break
        died = pool.collect()
        if died or time.monotonic() - mended > MEND_SECONDS:
            mend(session, study, pool.names)
            mended = time.monotonic()
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
    lives = [_life(trial) for trial in study.trials() if trial.state.name == "RUNNING"]
    return any(life in (None, "alive") or study.storage.has_heartbeat for life in lives)


def mend(session: Session, study: SweepStudy, running: Iterable[str] = ()) -> None:
    """Mark the trials whose process is gone, in the study and in the tracker, and queue them.

    Args:
        session: of the sweep.
        study: of the stage.
        running: names of the workers' starts that run, where they have names.
    """
    now = datetime.now(UTC)

    def is_dead(trial: FrozenTrial) -> bool:
        life = _life(trial, running)
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


def _life(trial: FrozenTrial, running: Iterable[str] = ()) -> Life | None:
    return life_of(trial.user_attrs.get(BEGIN, {}), running)


def promote(session: Session, share: SweepStudy) -> None:
    """Queue the default and the best configurations of the first stage to be run on all users."""
    study = session.main
    if study.trials():
        session.set_limit("search", study, study.n_configurations())
        return
    trials = share.records(share_of_users=session.settings.user_share or 1.0)
    ranked = dataclasses.replace(session.record("running"), trials=trials).ranked()
    chosen = [trial for trial in ranked if not trial.is_default][: session.settings.promoted]
    queue_default(session, study)
    for trial in chosen:
        notes = {} if trial.origin is None else {ORIGIN: trial.origin}
        study.queue(trial.params, promoted_from=trial.number, **notes)
    session.set_limit("search", study, 1 + len(chosen))


def agreement(session: Session, share: SweepStudy) -> RankAgreement:
    """How alike both fidelities rank the configurations that were run on both."""
    main = session.main
    origins = {t.number: t.user_attrs.get("promoted_from", DEFAULT_TRIAL) for t in main.trials()}
    cheap, full = share.records(), main.records()
    low = {DEFAULT_TRIAL if t.is_default else t.number: t.values[0] for t in cheap if t.values}
    high = {origins[t.number]: t.values[0] for t in full if t.values}
    return rank_agreement(
        low,
        high,
        low_fidelity=f"{session.settings.user_share:.0%} of the users",
        high_fidelity="all users",
    )
