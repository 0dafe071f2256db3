"""SIGINT and SIGTERM as one exception, so that a run can save, say so and end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Timer
from types import FrameType

AGAIN_SECONDS = 0.05


def ignored(_number: int, _frame: FrameType | None) -> None:
    """In place of SIG_IGN, which a process that is started then would inherit."""


_SETTLED = (signal.SIG_IGN, signal.SIG_DFL, ignored)


class Interrupted(BaseException):
    """A signal asked the run to end; not an ``Exception``, so that nothing swallows it.

    Attributes:
        signal_number: SIGINT or SIGTERM.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number

    @property
    def exit_code(self) -> int:
        """What a shell expects of a process that a signal ended: 130 or 143."""
        return 128 + self.signal_number


@contextmanager
def signals_to(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have SIGINT and SIGTERM handled within, and as before after it."""
    before = {each: signal.signal(each, handler) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, held_before in before.items():
            signal.signal(number, held_before)


@contextmanager
def interruptible() -> Iterator[None]:
    """Make the first SIGINT or SIGTERM within raise :class:`Interrupted`.

    A second SIGINT ends the process at once. A SIGTERM after the first signal is ignored: ``mlflow
    run`` answers a Ctrl-C, which reached us too, with a SIGTERM of its own. Where the first came
    upon a finalizer, out of which Python lets no exception, it comes again.
    """

    def interrupt(number: int, _frame: FrameType | None) -> None:
        _expect_no_more()
        raise Interrupted(number)

    is_over = Event()

    def again(number: int) -> None:
        if not is_over.is_set() and signal.getsignal(number) not in _SETTLED:  # no second came
            os.kill(os.getpid(), number)

    def unraisable(args: sys.UnraisableHookArgs) -> None:
        if not isinstance(args.exc_value, Interrupted):
            before(args)
            return
        number = args.exc_value.signal_number
        signal.signal(number, interrupt)
        Timer(AGAIN_SECONDS, again, (number,)).start()

    before, sys.unraisablehook = sys.unraisablehook, unraisable
    try:
        with signals_to(interrupt):
            try:
                yield
            finally:
                is_over.set()
    finally:
        sys.unraisablehook = before


@contextmanager
def first_sigint_to(note: Callable[[], None]) -> Iterator[None]:
    """Within :func:`interruptible`, have the first SIGINT noted; what follows it acts as ever."""
    before = signal.getsignal(signal.SIGINT)

    def first(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)
        note()

    signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is first:
            signal.signal(signal.SIGINT, before)


@contextmanager
def held() -> Iterator[None]:
    """Within :func:`interruptible`, have a first signal act at the end of the block.

    For calls that an exception at any of their lines could leave half done (a database connection
    that was cut in a transaction goes on to lock out the next one), and for those that swallow it,
    as Ray's do. A second SIGINT still ends the process at once, so that nobody waits for a store
    that does not answer.
    """
    waiting: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, _frame: FrameType | None) -> None:
        _expect_no_more()
        waiting.append(number)

    for number, handler in before.items():
        if handler not in _SETTLED:  # a first signal came before
            signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if waiting:
            signal.raise_signal(waiting[0])


def _expect_no_more() -> None:
    signal.signal(signal.SIGTERM, ignored)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
