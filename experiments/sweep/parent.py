"""The parent of a sweep: brings it from its beginning to its end.

A sweep goes through its stages (a share of the users, all users, finalists); each of them, done
again, goes on where it was.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from experiments.launcher import LOCAL, Launcher, ray_imported
from experiments.signals import Interrupted, first_sigint_to, interruptible
from experiments.sweep.console import SweepConsole
from experiments.sweep.delivery import upload_data
from experiments.sweep.finish import finish, measure_error
from experiments.sweep.first import queue_default
from experiments.sweep.opening import begin
from experiments.sweep.pool import Pool, local_pool
from experiments.sweep.request import SweepRequest
from experiments.sweep.session import Session
from experiments.sweep.stage import run_stage
from recsys.addresses import hide_passwords
from recsys.artifacts import locked
from recsys.errors import BookendsError
from sweeps.agreement import rank_agreement
from sweeps.finalists import DEFAULT_TRIAL
from sweeps.findings import RankAgreement
from sweeps.record import SweepRecord, SweepStatus
from sweeps.study import Stage, SweepStudy
from sweeps.summary import why_ended
from sweeps.trials import ORIGIN, is_extra


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
                measure_error(session)
            with session.part("search"):
                run_trials(session)
            with locked(session.directory.lock_path):
                finish(session)
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
        _search(session, "search", f"sweep {session.directory.name}")
        return
    cheap = session.stage("share")
    _search(session, "share", f"trials on {share:.0%} of the users")
    with locked(session.directory.lock_path):
        promote(session, cheap)
        session.keep(stage="search")
    run_stage(session, "search", f"sweep {session.directory.name}")
    session.fidelity = agreement(session, cheap)


def _search(session: Session, stage: Stage, title: str) -> None:
    """Run the trials that the sampler draws, until something ends them; keeps what did.

    The first Ctrl-C ends them as the end of the budget does, where there is anything to go on with.
    """
    settings, asked = session.settings, threading.Event()
    goes_on = settings.finalists > 0 or settings.final_run
    with first_sigint_to(asked.set) if goes_on else contextlib.nullcontext():
        run_stage(session, stage, title, asked)
    end = session.stage(stage).search_end()
    session.keep(search_end=end)
    session.console.say(why_ended(end, settings.objectives[0].metric))


def promote(session: Session, share: SweepStudy) -> None:
    """Queue the default and the best configurations of the first stage to be run on all users."""
    study = session.main
    if known := study.trials():
        session.set_limit("search", sum(not is_extra(trial) for trial in known))
        return
    ranked = dataclasses.replace(session.record("running"), trials=share.records()).ranked()
    chosen = [trial for trial in ranked if not trial.is_default][: session.settings.promoted]
    queue_default(session, study)
    for trial in chosen:
        notes = {} if trial.origin is None else {ORIGIN: trial.origin}
        study.queue(trial.params, promoted_from=trial.number, **notes)
    session.set_limit("search", 1 + len(chosen))


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
