"""When a worker is to end: asked at every step, so that it ends where nothing is half done."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from experiments.signals import Interrupted
from recsys.training.trainer import Step
from sweeps.storage import HEARTBEAT_SECONDS


class Watch:
    """Ends a worker at a safe point: when a signal came, or its parent is gone.

    Args:
        parent: process that the worker must not outlive; None for none.
        beat: called about once a minute, to say that the worker lives.
    """

    def __init__(self, parent: int | None, beat: Callable[[], None] = lambda: None) -> None:
        self._parent = parent
        self._signal: int | None = None
        self.beat = beat
        self._beaten = time.monotonic()

    @contextmanager
    def on_guard(self) -> Iterator[None]:
        """Take note of the first SIGINT or SIGTERM within; a second ends the process at once."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.getsignal(number) for number in numbers}

        def note(number: int, _frame: FrameType | None) -> None:
            self._signal = number
            for each in numbers:
                signal.signal(each, signal.SIG_DFL)

        for number in numbers:
            signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def check(self, _step: Step | None = None) -> None:
        """Raise Interrupted where the worker is to end."""
        if self._signal is not None:
            raise Interrupted(self._signal)
        if self._parent is not None and os.getppid() != self._parent:
            raise Interrupted(signal.SIGTERM)
        if time.monotonic() - self._beaten > HEARTBEAT_SECONDS:
            self._beaten = time.monotonic()
            self.beat()
