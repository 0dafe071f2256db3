"""What the user sees while lists are written."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from experiments.console import PLAIN_LINE_SECONDS
from experiments.recommend import Request, Written
from recsys.errors import shown


class RecommendConsole:
    """Shows a bar in a terminal, a line now and then elsewhere, and what was written.

    Args:
        console: where to print.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._last_line = time.monotonic()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Show the progress within this context."""
        if not self._console.is_terminal:
            yield
            return
        self._progress = Progress(
            TextColumn("{task.completed:,} users"),
            BarColumn(),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=None)
        with self._progress:
            yield

    def progress(self, n_users: int, total: int | None) -> None:
        """So many users are answered, of so many where that is known."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=n_users, total=total)
        elif time.monotonic() - self._last_line >= PLAIN_LINE_SECONDS:
            self._last_line = time.monotonic()
            of_all = "" if total is None else f" of {total:,}"
            self._say(f"{n_users:,}{of_all} users")

    def done(self, request: Request, written: Written) -> None:
        """Say what was written, for whom, and how fast."""
        pace = written.n_users / max(written.seconds, 1e-9)
        self._say(
            f"{request.out}: {written.n_rows:,} recommendations for {written.n_users:,} users, "
            f"{pace:,.0f} users a second"
        )
        if written.n_unknown:
            self._say(
                f"unknown users: {written.n_unknown:,} (first {shown(written.first_unknown)}); "
                f"they got the most popular books{written.hint}"
            )
        if written.recall is not None:
            recall = written.recall
            self._say(
                f"the index finds {recall.mean:.1%} of the exact lists of {recall.k} books "
                f"(worst of {recall.n_users} sampled users: {recall.lowest:.1%}); "
                f"built in {recall.build_seconds:.1f} s"
            )

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)
