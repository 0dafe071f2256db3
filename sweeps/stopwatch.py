"""Time spent on bookkeeping, told apart from time spent on training."""

from __future__ import annotations

import time
from types import TracebackType


class Stopwatch:
    """Adds up the wall time of all blocks within ``with stopwatch:``; they may be nested."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started = 0.0
        self._depth = 0

    def __enter__(self) -> None:
        if self._depth == 0:
            self._started = time.perf_counter()
        self._depth += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.seconds += time.perf_counter() - self._started

    def take(self) -> float:
        """The seconds so far; it starts again from none."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds
