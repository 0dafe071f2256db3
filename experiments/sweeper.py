"""A sweep from its settings to its winner; each step, done again, goes on where it was."""

from __future__ import annotations

import contextlib

from experiments.signals import Interrupted, interruptible
from experiments.sweep_console import SweepConsole
from experiments.sweep_delivery import deliver_trials
from experiments.sweep_finish import finish
from experiments.sweep_session import Request, Session, begin, close_session
from experiments.sweep_stages import run_stages
from recsys.addresses import hide_passwords
from recsys.artifacts import locked
from recsys.errors import BookendsError
from sweeps.record import SweepRecord, SweepStatus


def sweep(request: Request, console: SweepConsole) -> SweepRecord:
    """Do a whole sweep, or what is left of it.

    Returns:
        The finished sweep.

    Raises:
        Interrupted: a signal ended it; the same command goes on.
        BookendsError: something the user can mend.
    """
    with interruptible():
        session = begin(request, console)
        try:
            deliver_trials(session)  # what an earlier session could not send
            run_stages(session)
            with locked(session.directory.lock_path):
                finish(session)
        except BaseException as error:
            _end_early(session, error)
            raise
        finally:
            session.storage.close()
    return SweepRecord.read(session.directory.path)


def _end_early(session: Session, error: BaseException) -> None:
    status: SweepStatus = "failed"
    if isinstance(error, Interrupted):
        status = "interrupted"
        n_ended = sum(trial.state.is_finished() for trial in session.main.trials())
        session.console.say(f"{error}: {n_ended} trials are kept; the same command goes on")
    line = (hide_passwords(str(error)).splitlines() or [""])[0] or type(error).__name__
    with contextlib.suppress(BookendsError):
        session.record(status, line).write(session.directory.path)
        close_session(session, status, line)
