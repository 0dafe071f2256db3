"""SIGINT and SIGTERM as one exception, so that a run can save, say so and end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


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
def interruptible() -> Iterator[None]:
    """Make the first SIGINT or SIGTERM within raise :class:`Interrupted`.

    A second SIGINT ends the process at once. A SIGTERM after the first signal is ignored: ``mlflow
    run`` answers a Ctrl-C, which reached us too, with a SIGTERM of its own.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def interrupt(number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        raise Interrupted(number)

    for number in numbers:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
