"""What the user sees while a run goes on: a bar and tables in a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from recsys.config import RANKING_METRICS, prefix_of
from recsys.data.dataset import Prepared
from recsys.evaluation.distinct import distinct_metrics
from recsys.reporting.results import Results
from recsys.training.trainer import EpochResult, Step

PLAIN_LINE_SECONDS = 30.0
"""Outside a terminal an epoch says how far it has come at most this often."""


class RunConsole:
    """Prints a run's progress and results.

    Args:
        console: where to print.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._epoch_started = time.monotonic()
        self._last_line = time.monotonic()
        self._n_positives = 0

    def say(self, text: str) -> None:
        """Print one line as it is."""
        self._console.print(escape(text), highlight=False, soft_wrap=True)

    def heading(self, text: str) -> None:
        """Print one line that begins a part of the run."""
        self._console.print(f"[bold]{escape(text)}[/bold]", highlight=False, soft_wrap=True)

    def logging_to_console(self) -> None:
        """Let log records of the library appear between the other lines."""
        if self._console.is_terminal:
            handler: logging.Handler = RichHandler(
                console=self._console, show_path=False, show_time=False
            )
        else:
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        for name in ("recsys", "tracking", "experiments"):
            logger = logging.getLogger(name)
            logger.handlers = [handler]
            logger.setLevel(logging.INFO)
            logger.propagate = False

    def prepared(self, prepared: Prepared) -> None:
        """Show what each step of filtering left."""
        table = Table("step", title="interactions kept")
        for name in ("users", "items", "interactions"):
            table.add_column(name, justify="right")
        for step in prepared.filter_steps:
            counts = (step.users, step.items, step.interactions)
            table.add_row(step.name, *(f"{count:,}" for count in counts))
        self._console.print(table)

    @contextmanager
    def training(self, num_epochs: int, n_positives: int) -> Iterator[None]:
        """Show the progress of epochs of ``n_positives`` each within this context."""
        self._n_positives = n_positives
        if not self._console.is_terminal:
            yield
            return
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}/" + str(num_epochs)),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("loss {task.fields[loss]}"),
            TextColumn("{task.fields[pace]}"),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=n_positives, epoch=1, loss="", pace="")
        with self._progress:
            yield
        self._progress = None

    def step(self, step: Step) -> None:
        """Take in one training step; what is shown is refreshed a few times a second."""
        now = time.monotonic()
        if step.positives <= 0 or now - self._last_line < self._refresh_seconds:
            return
        self._last_line = now
        pace = step.positives / max(now - self._epoch_started, 1e-9)
        loss = f"{step.loss.item():.4f}"
        if self._progress is not None and self._task is not None:
            self._progress.update(
                self._task,
                completed=step.positives,
                epoch=step.epoch,
                loss=loss,
                pace=f"{pace:,.0f} positives/s",
            )
        else:
            left = (self._n_positives - step.positives) / pace
            share = step.positives / self._n_positives
            self.say(
                f"epoch {step.epoch}: {share:.0%}, loss {loss}, {pace:,.0f} positives/s, "
                f"{left:.0f} s left in this epoch"
            )

    @property
    def _refresh_seconds(self) -> float:
        return 0.2 if self._progress is not None else PLAIN_LINE_SECONDS

    def epoch(self, result: EpochResult, monitor: str) -> None:
        """Print one line for a finished epoch."""
        line = f"epoch {result.number:>3}  loss {result.train_loss:.4f}"
        if monitor in result.validation:
            star = " *" if result.is_best else ""
            line += f"  validation {monitor} {result.validation[monitor]:.4f}{star}"
        self.say(f"{line}  {result.seconds:.1f} s")
        self._epoch_started = self._last_line = time.monotonic()
        if self._progress is not None and self._task is not None:
            self._progress.reset(self._task, epoch=result.number + 1, loss="", pace="")

    def results(self, results: Results, ks: tuple[int, ...]) -> None:
        """Print the ranking metrics of the model beside the baselines', each number once."""
        monitor, one = results.headline, results.one_held_out
        title = f"{results.split}, {results.n_users:,} users"
        table = Table(title=title, box=SIMPLE_HEAD, padding=0)  # of 80 columns
        table.add_column("metric")
        for name in results.scores:
            table.add_column(name.replace("_", "\n"), justify="right")
        shown = (prefix_of(monitor) + stem for stem in ("ndcg", *RANKING_METRICS))
        stems = dict.fromkeys((monitor.partition("@")[0], *shown))
        keys = [f"{stem}@{k}" for stem in stems for k in ks]
        if results.is_among_new:
            keys += [f"ndcg@{k}" for k in ks]
        for key in distinct_metrics(keys, one_held_out=one, preferred=monitor):
            own, *others = (results.value(name, key) for name in results.scores)
            interval = "" if own.low is None else f" [{own.low:.4f}, {own.high:.4f}]"
            means = [_number(other.mean) for other in others]
            table.add_row(key, _number(own.mean) + interval, *means)
        self._console.print(table)

    def where(self, places: Mapping[str, object]) -> None:
        """Print where something lies, a line each: what it is, and its place."""
        for name, place in places.items():
            self.say(f"{name:<12}{place}")

    def written(self, *paths: Path) -> None:
        """Print the files that were written, a line each."""
        for path in paths:
            self.where({"written": path})


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
