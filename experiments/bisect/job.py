"""The bisection of two runs, from what a person calls them to the report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, reduce
from pathlib import Path
from typing import Any

import pandas as pd
from rich.markup import escape

from experiments.bisect.code import checkouts, why_not_crossed
from experiments.bisect.factors import Cell, RunPair
from experiments.bisect.training import Crossing, metric_of
from experiments.compare_console import print_table
from experiments.console import RunConsole
from experiments.environment import git_commit
from experiments.other_data import RunTest
from experiments.runs_console import usual_console
from recsys.errors import ConfigError, DataError
from recsys.evaluation.attribution import attribute
from recsys.reporting.bisection import (
    Bisection,
    CrossedRun,
    Step,
    bisection_tables,
    verdict,
    write_bisection,
)
from recsys.reporting.comparison import name_against
from recsys.reporting.results import monitor_of
from tracking.past_runs import find_run


@dataclass(frozen=True)
class BisectRequest:
    """What is asked for.

    Attributes:
        old: the first run, as a person calls it.
        new: the second.
        metric: None takes the one by which the first run was trained.
        n_seeds: on how many seeds every run is trained.
        narrow: whether the settings are narrowed down to one.
        same_test: whether all runs are judged by the test of the new one.
        out: where the directory is made.
        experiment: where runs are looked for; None looks in all.
        tracking_uri: the store; None takes the usual one.
        is_tracked: whether runs are mirrored to MLflow.
    """

    old: str
    new: str
    metric: str | None = None
    n_seeds: int = 1
    narrow: bool = False
    same_test: bool = False
    out: Path = Path("artifacts/bisects")
    experiment: str | None = None
    tracking_uri: str | None = None
    is_tracked: bool = True


def bisect(request: BisectRequest) -> Bisection:
    """Find the runs, train those between them, and write the report.

    Raises:
        BookendsError: a run that is not found, or nothing that could be crossed.
    """
    old, new = (
        find_run(text, request.tracking_uri, request.experiment)
        for text in (request.old, request.new)
    )
    reason = why_not_crossed(old, new)
    pair = RunPair(old, new, has_code=not reason)
    metric = request.metric or monitor_of(old.record)
    _check(pair, metric, reason, narrow=request.narrow)
    places: dict[str, Any] = {"tracking": request.is_tracked}
    if request.tracking_uri is not None:
        places |= {"tracking_uri": request.tracking_uri}
    trains = len(pair.cells) > 2 or request.n_seeds > 1 or request.narrow
    directory = request.out / _name(pair)
    with checkouts(directory / "code") as checkout:
        test = RunTest(new, request.tracking_uri) if request.same_test else None
        crossing = Crossing(pair, metric, request.n_seeds, directory, places, checkout, test)
        if trains:
            crossing.check()
        notices = tuple(_notices(crossing, reason, trains=trains))
        found = _find(crossing, notices, narrow=request.narrow)
    _print(found, write_bisection(found, directory))
    return found


def _check(pair: RunPair, metric: str, reason: str, *, narrow: bool) -> None:
    """Refuse runs between which there is nothing to find."""
    for run in pair.ends:
        metric_of(run, metric)
    if not pair.factors:
        raise DataError(f"runs must differ in settings, data or code, but {_alike(pair, reason)}")
    if narrow and len(pair.settings) < 2:
        raise ConfigError(
            "'--narrow' must have two settings or more to choose from, but the runs differ in "
            f"{len(pair.settings)}"
        )


def _find(crossing: Crossing, notices: tuple[str, ...], *, narrow: bool) -> Bisection:
    pair = crossing.pair
    old, new = pair.ends
    confidence = old.record.confidence
    cells = [crossing.crossed(cell) for cell in pair.cells]
    return Bisection(
        name=crossing.directory.name,
        old=old.name,
        new=new.name if new.name != old.name else f"{new.name} ({new.record.created})",
        metric=crossing.metric,
        factors=pair.factors,
        cells=tuple(cells if crossing.test is None else _of_common_users(cells)),
        differing=pair.differing,
        notices=notices,
        confidence=confidence,
        same_test=crossing.test is not None,
        steps=tuple(_narrow(crossing, confidence)) if narrow else (),
    )


def _of_common_users(cells: Sequence[CrossedRun]) -> Iterator[CrossedRun]:
    """The cells without users that one of them leaves out, being trained on a test item."""
    indexes = [values.index for cell in cells for values in cell.values]
    common = reduce(lambda one, other: one.intersection(other, sort=False), indexes)
    for cell in cells:
        yield replace(cell, values=[values.loc[common] for values in cell.values])


def _narrow(crossing: Crossing, confidence: float) -> Iterator[Step]:
    """Halve the settings until one is left, data and code as in the new run.

    What cannot be trained, since settings are at odds, is no place to cut.
    """

    @cache
    def values(n: int) -> pd.Series:
        return crossing.crossed(Cell(n, 1, 1)).mean_values

    low, high = 0, len(crossing.pair.settings)
    while True:
        _, share = attribute([values(low), values(high)], confidence)
        yield Step(low, high, share)
        between = sorted(range(low + 1, high), key=lambda n: abs(2 * n - low - high))
        middle = next((n for n in between if crossing.is_possible(Cell(n, 1, 1))), None)
        if middle is None:
            return
        gains = [abs(values(middle).mean() - values(end).mean()) for end in (low, high)]
        low, high = (low, middle) if gains[0] >= gains[1] else (middle, high)


def _alike(pair: RunPair, reason: str) -> str:
    old, new = (f"'{run.name}'" for run in pair.ends)
    text = f"{old} and {new} are alike in all that bears on the model and its metrics"
    return f"{text}; {reason[:1].lower()}{reason.rstrip('.')[1:]}" if reason else text


def _name(pair: RunPair) -> str:
    identity = [[run.name, run.record.created] for run in pair.ends]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:8]
    return name_against(pair.new.name, pair.old.name, key)


def _notices(crossing: Crossing, reason: str, *, trains: bool) -> Iterator[str]:
    pair = crossing.pair
    if reason:
        yield reason
        if pair.old.record.commit != pair.new.record.commit:
            yield "What the code changed counts among the shares of the others."
    others = {pair.commit(cell) for cell in pair.cells} - {git_commit()}
    if trains and any(crossing.checkout(commit) is None for commit in others):
        yield (
            "What was trained for this was trained by the present code, since that of the two runs "
            "could not be had."
        )
    if pair.has_other_files:
        yield "The contents of the data files differ."


def _print(found: Bisection, files: tuple[Path, Path]) -> None:
    console = usual_console()
    console.print(f"\n[bold]{escape(verdict(found))}[/bold]\n", highlight=False)
    for text in found.notices:
        console.print(escape(text), highlight=False)
    for table in bisection_tables(found).values():
        print_table(table, console)
    RunConsole(console).written(*files)
