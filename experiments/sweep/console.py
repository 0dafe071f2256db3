"""What the user sees of a sweep: a live table in a terminal, a line a trial elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from experiments.console import RunConsole
from sweeps.findings import Finalists
from sweeps.record import Objective, TrialRecord
from sweeps.settings import UNLIMITED

SHOWN_TRIALS = 12
OUTLOOK_EVERY = 5
"""Where lines stay, what is to come is told after so many trials."""
_SHORT = 4
_COLOURS = {"complete": "green", "pruned": "yellow", "failed": "red", "running": "cyan"}


class SweepConsole(RunConsole):
    """Prints a sweep's progress and results.

    Args:
        console: where to print.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__(console)
        self._live: Live | None = None
        self._bar: Progress | None = None
        self._shown = set[int]()
        self._objectives: tuple[Objective, ...] = ()
        self._title = ""

    @contextmanager
    def trials(
        self, title: str, objectives: tuple[Objective, ...], known: tuple[TrialRecord, ...]
    ) -> Iterator[None]:
        """Show trials of a stage within this context; those that ended before are not told."""
        self._objectives, self._title = objectives, title
        self._shown = {trial.number for trial in known if trial.state != "running"}
        self.heading(title)
        if not self._console.is_terminal:
            yield
            return
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        )
        self._bar.add_task("trials", total=None)
        with Live(console=self._console, refresh_per_second=4) as self._live:
            yield
        self._live = None

    def show(self, trials: tuple[TrialRecord, ...], limit: int, outlook: str = "") -> None:
        """Take in the state of all trials of the stage, and what is to be said of those to come."""
        ended = [trial for trial in trials if trial.state != "running"]
        repeated = {trial.retry_of for trial in trials}
        n_ended = sum(trial.number not in repeated for trial in ended)
        total = limit if limit < UNLIMITED else None
        if self._live is not None and self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=n_ended, total=total)
            self._live.update(Group(self._table(trials), self._bar, outlook))
            return
        known = len(self._shown)
        for trial in ended:
            if trial.number not in self._shown:
                self._shown.add(trial.number)
                self.say(self._line(trial, n_ended, total))
        if outlook and len(self._shown) // OUTLOOK_EVERY > known // OUTLOOK_EVERY:
            self.say(outlook)

    def finalists(self, finalists: Finalists) -> None:
        """Print the last round."""
        table = Table(title=f"finalists, validation {finalists.metric}")
        for name in ("trial", "mean", "std between seeds", "search"):
            table.add_column(name, justify="right")
        for row in finalists.rows:
            name = f"{row.trial} (default)" if row.is_default else str(row.trial)
            star = " *" if row.trial == finalists.winner else ""
            table.add_row(
                name + star, _number(row.mean), _number(row.std), _number(row.search_value)
            )
        self._console.print(table)
        self.say(finalists.verdict)

    def _table(self, trials: tuple[TrialRecord, ...]) -> Table:
        table = Table(title=self._title)
        names = [objective.metric for objective in self._objectives]
        for name in ("trial", "state", "epochs", "s", *names, "values"):
            table.add_column(name)
        running = [trial for trial in trials if trial.state == "running"]
        best = self._best(trials)[: SHOWN_TRIALS // 2]
        latest = [t for t in trials if t.state != "running" and t not in best]
        for trial in [*best, *latest[-SHOWN_TRIALS // 2 :], *running]:
            colour = _COLOURS[trial.state]
            table.add_row(
                _named(trial),
                f"[{colour}]{trial.state}[/{colour}]",
                str(trial.epochs),
                f"{trial.seconds:.1f}" if trial.seconds else "",
                *[_number(value) for value in trial.values or [None] * len(names)],
                escape(_params(trial)),
            )
        return table

    def _best(self, trials: tuple[TrialRecord, ...]) -> list[TrialRecord]:
        sign = self._objectives[0].sign
        complete = [trial for trial in trials if trial.values is not None]
        return sorted(complete, key=lambda t: -sign * t.values[0] if t.values else 0.0)

    def _line(self, trial: TrialRecord, n_ended: int, limit: int | None) -> str:
        names = [objective.metric for objective in self._objectives]
        of = "" if limit is None else f"/{limit}"
        line = f"{_named(trial):<9}  {trial.state:<8}  {n_ended}{of}"
        for name, value in zip(names, trial.values or (), strict=False):
            line += f"  {name} {_number(value)}"
        if trial.error:
            line += f"  {trial.error}"
        return f"{line}  {trial.epochs} epochs, {trial.seconds:.1f} s  {_params(trial)}".rstrip()


def _named(trial: TrialRecord) -> str:
    """A training of a finalist draws nothing: it has the name of the trial that it trains again."""
    return trial.origin if trial.origin and not trial.params else f"trial {trial.number:>3}"


def _params(trial: TrialRecord) -> str:
    return ", ".join(
        f"{name.rpartition('.')[2]} {_number(value) if isinstance(value, float) else value}"
        for name, value in trial.params.items()
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.{_SHORT}g}"
